variable "name" {
  description = "The bucket's name, unique in the world"
  type        = string
}

variable "kms_key_arn" {
  description = "The key that objects rest under"
  type        = string
}

variable "expire_days" {
  description = "Days after which objects go, by prefix; what has no prefix here stays"
  type        = map(number)
}
