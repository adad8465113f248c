variable "name" {
  description = "The queue's name; its dead-letter queue is <name>-dlq"
  type        = string
}

variable "sender" {
  description = "Which service sends what to the queue: a bucket, whose ARN has no account, with its account"
  type = object({
    sid        = string
    service    = string
    arn        = string
    account_id = optional(string)
  })
}

variable "alarm_topic_arn" {
  description = "Where alarms go"
  type        = string
}

variable "alarms" {
  description = "What each alarm says, and from how many messages on; one that is null is not made"
  type = object({
    age               = string
    dead_letters      = string
    backlog           = optional(object({ what = string, messages = number }))
    dead_letters_rate = optional(object({ what = string, in_5_minutes = number }))
  })
}
