output "url" {
  description = "The queue's URL"
  value       = aws_sqs_queue.photos.id
}

output "arn" {
  description = "The queue's ARN"
  value       = aws_sqs_queue.photos.arn
}

output "dead_letters_arn" {
  description = "The dead-letter queue's ARN"
  value       = aws_sqs_queue.dead_letters.arn
}
