locals {
  zones = [for letter in var.zones : "${var.region}${letter}"]
}

################################################################################
# Network
################################################################################

module "vpc" {
  #checkov:skip=CKV_TF_1: the registry takes versions; an exact one, and Dependabot shows what a new one changes
  source  = "terraform-aws-modules/vpc/aws"
  version = "6.6.0"

  name = var.name
  cidr = var.vpc_cidr
  azs  = local.zones

  private_subnets = [for index, _ in local.zones : cidrsubnet(var.vpc_cidr, 3, index)]
  public_subnets  = [for index, _ in local.zones : cidrsubnet(var.vpc_cidr, 8, 192 + index)]

  enable_nat_gateway = true
  single_nat_gateway = var.one_nat_gateway

  manage_default_security_group = true # without rules: who names no group reaches nothing
}

# Photos are nearly all of the traffic, and a NAT gateway is paid by the gigabyte; this is free.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = module.vpc.vpc_id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = module.vpc.private_route_table_ids
}

################################################################################
# Cluster
################################################################################

module "eks" {
  #checkov:skip=CKV_TF_1: as above
  source  = "terraform-aws-modules/eks/aws"
  version = "21.19.0"

  name               = var.name
  kubernetes_version = var.kubernetes_version

  vpc_id     = module.vpc.vpc_id
  subnet_ids = module.vpc.private_subnets

  endpoint_public_access       = true
  endpoint_public_access_cidrs = var.api_cidrs

  enable_cluster_creator_admin_permissions = true # whoever bootstraps; others by access entries
  deletion_protection                      = var.deletion_protection
  enable_irsa                              = false # pods get their roles by Pod Identity

  enabled_log_types                      = ["audit", "authenticator"]
  cloudwatch_log_group_retention_in_days = 30

  addons = {
    vpc-cni = {
      before_compute       = true
      configuration_values = jsonencode({ enableNetworkPolicy = "true" }) # else NetworkPolicies are but words
    }
    eks-pod-identity-agent = { before_compute = true }
    kube-proxy             = {}
    coredns                = {}
    metrics-server         = {} # Knative scales its own activator and webhook by CPU
  }

  eks_managed_node_groups = {
    for name, group in var.node_groups : name => {
      capacity_type  = "SPOT" # EKS replaces a node on a rebalance recommendation, then drains the old
      instance_types = group.instance_types
      subnet_ids     = module.vpc.private_subnets
      labels         = group.labels

      min_size     = group.size
      desired_size = group.size # only at first: min_size is what holds
      max_size     = 2 * group.size

      ami_type                       = "AL2023_x86_64_STANDARD"
      ami_release_version            = group.ami_release_version
      use_latest_ami_release_version = group.ami_release_version == null

      block_device_mappings = {
        root = {
          device_name = "/dev/xvda"
          ebs         = { volume_size = 30, volume_type = "gp3", encrypted = true, delete_on_termination = true }
        }
      }

      # One hop: a pod gets its own role, by Pod Identity, and never the node's.
      metadata_options   = { http_tokens = "required", http_put_response_hop_limit = 1 }
      node_repair_config = { enabled = true }
      update_config      = { max_unavailable = 1 }
    }
  }
}

################################################################################
# Way in
################################################################################

module "entrance" {
  source = "./modules/entrance"
  count  = var.entrance == null ? 0 : 1

  name                   = var.name
  vpc_id                 = module.vpc.vpc_id
  subnet_ids             = var.entrance.internal ? module.vpc.private_subnets : module.vpc.public_subnets
  internal               = var.entrance.internal
  allowed_cidrs          = var.entrance.allowed_cidrs
  ports                  = var.entrance.ports
  domain                 = var.entrance.domain
  node_security_group_id = module.eks.node_security_group_id
  deletion_protection    = var.deletion_protection

  autoscaling_groups = {
    for name, group in module.eks.eks_managed_node_groups : name => group.node_group_autoscaling_group_names[0]
  }
}
