variable "name" {
  description = "The queue's name; its dead-letter queue is <name>-dlq"
  type        = string
}

variable "account_id" {
  description = "The account of the bucket"
  type        = string
}

variable "bucket_arn" {
  description = "The bucket that announces its objects here"
  type        = string
}

variable "alarm_topic_arn" {
  description = "Where alarms go"
  type        = string
}

variable "max_backlog" {
  description = "Messages that may wait before the alarm"
  type        = number
}

variable "max_dead_letters_in_5_minutes" {
  description = "Messages given up within five minutes before the alarm"
  type        = number
  default     = 10
}
