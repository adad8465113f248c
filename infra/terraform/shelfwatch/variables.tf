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
  description = "Begins every name, so that two installations fit into one account"
  type        = string
  default     = "shelfwatch"

  validation {
    # The longest name made from it is a bucket's: <name>-results-<12 digits>, at most 63 characters. The registry
    # and the monitor's database take no hyphen beside another one or at the end.
    condition     = can(regex("^[a-z][a-z0-9-]{1,31}$", var.name)) && can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.name))
    error_message = "name is ${jsonencode(var.name)}, not 2 to 32 of a-z, 0-9 and single - between them."
  }
}

variable "cluster_name" {
  description = "The EKS cluster whose pods get the roles; empty: that called like the installation"
  type        = string
  default     = ""
}

################################################################################
# Photos and results
################################################################################

variable "photo_retention_days" {
  description = "How long a photo is kept"
  type        = number
  default     = 90

  validation {
    # A message may wait 4 days in the queue and 14 in the dead-letter queue; a photo that is gone
    # by then can only be rejected.
    condition     = var.photo_retention_days >= 19
    error_message = "photo_retention_days is ${var.photo_retention_days}; a replay may want a photo for 18 days."
  }
}

variable "results_retention_days" {
  description = "How long a result is kept"
  type        = number
  default     = 365

  validation {
    # The sweep audits every photo that has no result: one that outlives its result comes again.
    condition     = var.results_retention_days >= var.photo_retention_days
    error_message = "results_retention_days is ${var.results_retention_days}, less than the photos' ${var.photo_retention_days}: the sweep would audit them again."
  }
}

variable "upload_prefixes" {
  description = "Under which keys the function offers places to callers without AWS keys (POST /uploads): [\"store-17/\"], or [\"\"] for every store; none by default"
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for prefix in var.upload_prefixes : can(regex("^([A-Za-z0-9._-]+/)*$", prefix))])
    error_message = "upload_prefixes has something that is neither empty nor folders that end with a slash."
  }
}

variable "subscriber_account_ids" {
  description = "Other accounts that may subscribe to the events"
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.subscriber_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "subscriber_account_ids has something that is not 12 digits."
  }
}

################################################################################
# Pods
################################################################################

variable "namespace" {
  description = "The namespace of the function and the source"
  type        = string
  default     = "shelfwatch"
}

variable "service_accounts" {
  description = "Which service account of that namespace plays which part"
  type = object({
    function = optional(string, "shelfwatch-function")
    source   = optional(string, "shelfwatch-source")
    sweep    = optional(string, "shelfwatch-sweep")
    replay   = optional(string, "shelfwatch-replay")
    rollout  = optional(string, "shelf-rollout")
  })
  default = {}
}

variable "image_updater" {
  description = "Where Argo CD Image Updater runs"
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "argocd", service_account = "argocd-image-updater" }
}

variable "policy_controller" {
  description = "Where Sigstore's policy-controller runs, which asks whose an image is before it starts"
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "cosign-system", service_account = "policy-controller" }
}

variable "loki" {
  description = "Where Loki runs, which keeps log lines in a bucket"
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "monitoring", service_account = "loki" }
}

variable "alertmanager" {
  description = "Where Alertmanager runs, which tells people of alerts"
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "monitoring", service_account = "alertmanager" }
}

variable "cert_manager" {
  description = "Where cert-manager runs and the zone of Route 53 in which it proves that the domain is ours; null without a public way"
  type = object({
    hosted_zone_id  = string
    namespace       = optional(string, "cert-manager")
    service_account = optional(string, "cert-manager")
  })
  default = null
}

variable "keda" {
  description = "Where KEDA's operator runs, for the overlay that scales the source on the queue; null without"
  type        = object({ namespace = string, service_account = string })
  default     = null
}

################################################################################
# Delivery
################################################################################

variable "github_repository" {
  description = "owner/name as it stands in the subject of the tokens; owner@id/name@id where the subject is immutable, as in repositories created since July 2026"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+(@[0-9]+)?/[A-Za-z0-9._-]+(@[0-9]+)?$", var.github_repository))
    error_message = "github_repository is ${jsonencode(var.github_repository)}, not owner/name or owner@id/name@id."
  }
}

variable "github_branch" {
  description = "The only branch whose workflows may push images"
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.github_branch))
    error_message = "github_branch is ${jsonencode(var.github_branch)}: a name, without wildcards."
  }
}

variable "create_github_provider" {
  description = "Whether to create the account's identity provider of GitHub; an account has one"
  type        = bool
  default     = true
}

################################################################################
# Alarms
################################################################################

variable "alarm_email" {
  description = "Who is told of alarms; empty: subscribe to the topic yourself"
  type        = string
  default     = ""
}

variable "monthly_budget_usd" {
  description = "The account's budget for a month; told at 80 % spent and at 100 % foreseen"
  type        = number
  default     = 300

  validation {
    condition     = var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd is ${var.monthly_budget_usd}, not more than 0."
  }
}

variable "max_backlog" {
  description = "Photos that may wait before the alarm; by default half an hour of two pods"
  type        = number
  default     = 5000
}
