output "name" {
  description = "The cluster's name"
  value       = module.eks.cluster_name
}

output "entrance" {
  description = "What the CNAME of the service's host name points to; empty without a way in"
  value       = one(module.entrance[*].dns_name)
}

output "for_database" {
  description = "Where infra/terraform/monitor may put a database: -json, into its cluster.auto.tfvars.json"
  value = {
    database = {
      vpc_id                   = module.vpc.vpc_id
      subnet_ids               = module.vpc.private_subnets
      client_security_group_id = module.eks.node_security_group_id
    }
  }
}

output "next" {
  description = "The commands to type now"
  value       = <<-EOT
    aws eks update-kubeconfig --region ${var.region} --name ${module.eks.cluster_name}
    kubectl get nodes -L eks.amazonaws.com/nodegroup,node.kubernetes.io/instance-type,topology.kubernetes.io/zone

    # Which of the instance types Spot has in this region, and for how much:
    aws ec2 describe-spot-price-history --region ${var.region} --product-descriptions Linux/UNIX --start-time $(date -u +%FT%TZ) --instance-types ${join(" ", distinct(flatten([for group in var.node_groups : group.instance_types])))} --query 'SpotPriceHistory[].[InstanceType,AvailabilityZone,SpotPrice]' --output table
  EOT
}
