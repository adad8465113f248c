variable "name" {
  description = "The role's name"
  type        = string
}

variable "cluster_name" {
  description = "The cluster of the pods"
  type        = string
}

variable "namespace" {
  description = "The namespace of the pods"
  type        = string
}

variable "service_account" {
  description = "The service account of the pods"
  type        = string
}

variable "statements" {
  description = "What they may call"
  type = list(object({
    Sid      = string
    Effect   = optional(string, "Allow")
    Action   = list(string)
    Resource = list(string)
  }))
}
