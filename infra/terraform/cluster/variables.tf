################################################################################
# Where
################################################################################

variable "account_id" {
  description = "The AWS account this may touch: 12 digits"
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id is ${jsonencode(var.account_id)}, not 12 digits."
  }
}

variable "region" {
  description = "The region of everything"
  type        = string
}

variable "name" {
  description = "The cluster's name, and what all names begin with"
  type        = string
  default     = "shelfwatch"

  validation {
    # A target group's name, <name>-443, has at most 32 characters; the cluster's role wants nearly as much.
    condition     = can(regex("^[a-z][a-z0-9-]{1,27}$", var.name)) && can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.name))
    error_message = "name is ${jsonencode(var.name)}, not 2 to 28 of a-z, 0-9 and single - between them."
  }
}

variable "zones" {
  description = "Letters of three availability zones. Named, since a list that AWS adds to would move subnets; Tokyo has a, c and d"
  type        = list(string)
  default     = ["a", "b", "c"]

  validation {
    condition     = length(distinct(var.zones)) == 3 && alltrue([for letter in var.zones : can(regex("^[a-z]$", letter))])
    error_message = "zones is ${jsonencode(var.zones)}, not three different letters."
  }
}

variable "vpc_cidr" {
  description = "The network's addresses, a /16: every pod has one"
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && endswith(var.vpc_cidr, "/16")
    error_message = "vpc_cidr is ${jsonencode(var.vpc_cidr)}, not a block of IPv4 that ends with /16: a smaller one has too few addresses for pods."
  }
}

variable "one_nat_gateway" {
  description = "One for all zones; false makes one a zone, so that a zone's loss takes nobody else's way out"
  type        = bool
  default     = true
}

################################################################################
# Kubernetes
################################################################################

variable "kubernetes_version" {
  description = "Minor version; Knative 1.22 and later want 1.34"
  type        = string
  default     = "1.35" # EKS has it in standard support until 2027-03-27
}

variable "api_cidrs" {
  description = "Who may reach the cluster's API from outside, such as an office's 192.0.2.0/24; nodes reach it from within"
  type        = list(string)

  validation {
    condition     = length(var.api_cidrs) > 0 && alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "api_cidrs is ${jsonencode(var.api_cidrs)}: at least one block, and not the whole internet."
  }
}

variable "deletion_protection" {
  description = "Whether cluster and load balancer refuse to be deleted; false before `terraform destroy`"
  type        = bool
  default     = true
}

################################################################################
# Nodes
################################################################################

variable "node_groups" {
  description = "Managed node groups on Spot. To move: add a second one, apply, drain the first, take it out, apply (docs/deploy.md)"
  type = map(object({
    size = optional(number, 3)
    # 2 vCPU each, and enough of them that one type's shortage is none: EKS takes the pool with the
    # most spare capacity. 4 GiB at least, see docs/deploy.md for the sum; t3.small fails it.
    instance_types = optional(list(string), [
      "m7i-flex.large", "c7i-flex.large", "m7i.large", "c7i.large",
      "m7a.large", "c7a.large", "m6i.large", "c6i.large",
    ])
    ami_release_version = optional(string) # null: the newest of the Kubernetes version
    labels              = optional(map(string), {})
  }))
  default = { blue = {} }

  validation {
    condition     = length(var.node_groups) > 0 && alltrue([for group in var.node_groups : length(group.instance_types) >= 6])
    error_message = "A group on Spot wants at least six instance types: fewer run short together."
  }
  validation {
    # With one node gone the rest must hold every system pod and two of the function.
    condition     = alltrue([for group in var.node_groups : group.size >= 3])
    error_message = "A group wants at least three nodes: two do not hold the system's pods when one is reclaimed."
  }
  validation {
    condition     = alltrue([for group in var.node_groups : alltrue([for type in group.instance_types : !startswith(type, "t3.")])])
    error_message = "t3 has 20 % of a CPU a vCPU for long, and t3.small 11 pods: it carries no detector (docs/deploy.md)."
  }
}

################################################################################
# Way in
################################################################################

variable "entrance" {
  description = "A load balancer for the page and for callers outside; null: nothing outside reaches the cluster, photos come by S3"
  type = object({
    allowed_cidrs = list(string)
    internal      = optional(bool, false)
    ports         = optional(map(number), { 80 = 31080, 443 = 31443 }) # those of Kourier's Service, of type NodePort
    domain        = optional(object({ name = string, hosted_zone_id = string }))
  })
  default = null
}
