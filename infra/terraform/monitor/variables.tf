variable "region" {
  description = "The region of everything"
  type        = string
}

variable "account_id" {
  description = "The AWS account this may touch: 12 digits"
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id is ${jsonencode(var.account_id)}, not 12 digits."
  }
}

variable "name" {
  description = "Begins every name, as in infra/terraform/shelfwatch"
  type        = string
  default     = "shelfwatch"

  validation {
    # A database takes no hyphen beside another one or at the end.
    condition     = can(regex("^[a-z][a-z0-9-]{1,31}$", var.name)) && can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.name))
    error_message = "name is ${jsonencode(var.name)}, not 2 to 32 of a-z, 0-9 and single - between them."
  }
}

variable "cluster_name" {
  description = "The EKS cluster whose pods get the roles; empty: that called like the installation"
  type        = string
  default     = ""
}

variable "namespace" {
  description = "The namespace of the monitor"
  type        = string
  default     = "shelfwatch"
}

variable "service_accounts" {
  description = "Which service account of that namespace plays which part"
  type = object({
    monitor = optional(string, "shelfwatch-monitor")
    source  = optional(string, "shelfwatch-monitor-source")
  })
  default = {}
}

################################################################################
# From infra/terraform/shelfwatch
################################################################################

variable "events_topic_arn" {
  description = "The topic on which the function publishes"
  type        = string
}

variable "alarms_topic_arn" {
  description = "Where alarms go"
  type        = string
}

variable "results_bucket_arn" {
  description = "The bucket that holds data too large for an event"
  type        = string
}

variable "photos_queue_arn" {
  description = "The queue of photos: while they wait there, nobody is called silent"
  type        = string
}

variable "kms_key_arn" {
  description = "The key of the results and the events"
  type        = string
}

################################################################################
# The database
################################################################################

variable "database" {
  description = "An RDS PostgreSQL of our own; null where DATABASE_URL names another"
  type = object({
    vpc_id                   = string
    subnet_ids               = list(string) # private ones, in two zones at least
    client_security_group_id = string       # of the cluster's nodes
    instance_class           = optional(string, "db.t4g.small")
    max_storage_gb           = optional(number, 200)
    multi_az                 = optional(bool, false)
    backup_days              = optional(number, 14)
  })
  default = null

  validation {
    condition     = var.database == null || try(length(var.database.subnet_ids) >= 2, false)
    error_message = "database.subnet_ids has fewer than two subnets; RDS wants two zones."
  }

  validation {
    condition     = var.database == null || try(var.database.backup_days >= 7, false)
    error_message = "database.backup_days is less than 7: a fault found on Monday wants Friday's data."
  }
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted; false before `terraform destroy`, which keeps a last snapshot"
  type        = bool
  default     = true
}
