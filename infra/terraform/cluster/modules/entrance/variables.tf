variable "name" {
  description = "Name of the load balancer"
  type        = string
}

variable "vpc_id" {
  description = "The cluster's VPC"
  type        = string
}

variable "subnet_ids" {
  description = "Public subnets, or private ones where it is internal"
  type        = list(string)
}

variable "internal" {
  description = "Whether it is reachable from the VPC (and its VPN) only"
  type        = bool
}

variable "allowed_cidrs" {
  description = "Who may connect"
  type        = list(string)
}

variable "ports" {
  description = "The node port of Kourier's Service that each port leads to"
  type        = map(number)
}

variable "domain" {
  description = "The service's host name and the zone of Route 53 it is in; null: make the record elsewhere"
  type        = object({ name = string, hosted_zone_id = string })
  default     = null
}

variable "node_security_group_id" {
  description = "The nodes' security group"
  type        = string
}

variable "autoscaling_groups" {
  description = "The auto scaling group of each node group"
  type        = map(string)
}

variable "deletion_protection" {
  description = "Whether it refuses to be deleted"
  type        = bool
  default     = true
}
