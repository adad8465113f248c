output "url" {
  description = "The queue's URL"
  value       = aws_sqs_queue.this.id
}

output "arn" {
  description = "The queue's ARN"
  value       = aws_sqs_queue.this.arn
}

output "dead_letters_arn" {
  description = "The dead-letter queue's ARN"
  value       = aws_sqs_queue.dead_letters.arn
}

output "policy" {
  description = "Who may send to the queue, in JSON"
  value       = aws_sqs_queue_policy.this.policy
}
