locals {
  # What the pods read from their environment, and where their image and notices are.
  settings = merge({
    AWS_DEFAULT_REGION  = var.region
    EVENTS_BUCKETS      = module.photos.name
    RESULTS_BUCKET      = module.results.name
    REFERENCES_BUCKET   = module.results.name
    TOPIC_ARN           = aws_sns_topic.events.arn
    QUEUE_URL           = module.queue.url
    IMAGE               = aws_ecr_repository.this.repository_url
    REGISTRY            = split("/", aws_ecr_repository.this.repository_url)[0]
    LOGS_BUCKET         = module.logs.name
    NOTICE_TOPIC_ARN    = aws_sns_topic.alarms.arn
    HEARTBEAT_TOPIC_ARN = aws_sns_topic.heartbeat.arn
  }, length(var.upload_prefixes) == 0 ? {} : { UPLOADS_BUCKET = module.photos.name })
}

output "settings" {
  description = "What goes into knative/settings/settings.env"
  value       = local.settings
}

output "settings_env" {
  description = "The same, a line each, as infra/bootstrap.sh reads it"
  value       = join("\n", [for name, value in local.settings : "${name}=${value}"])
}

output "image" {
  description = "Where workflows push to"
  value       = aws_ecr_repository.this.repository_url
}

output "push_role_arn" {
  description = "What workflows assume"
  value       = aws_iam_role.push.arn
}

output "camera_policy_arn" {
  description = "Attach to the role of what uploads photos"
  value       = aws_iam_policy.camera.arn
}

output "subscriber_policy_arn" {
  description = "Attach to the role of a subscriber that follows dataref"
  value       = aws_iam_policy.subscriber.arn
}

output "monitor" {
  description = "What infra/terraform/monitor wants to know of this root: -json, into its shelfwatch.auto.tfvars.json"
  value = {
    account_id         = var.account_id
    region             = var.region
    name               = var.name
    cluster_name       = var.cluster_name
    namespace          = var.namespace
    events_topic_arn   = aws_sns_topic.events.arn
    alarms_topic_arn   = aws_sns_topic.alarms.arn
    results_bucket_arn = module.results.arn
    photos_queue_arn   = module.queue.arn
    kms_key_arn        = aws_kms_key.data.arn
  }
}

output "next" {
  description = "The commands to type now"
  value       = <<-EOT
    # Let the workflows push:
    gh variable set AWS_REGION --body ${var.region}
    gh variable set AWS_ROLE_ARN --body ${aws_iam_role.push.arn}
    gh variable set ECR_REPOSITORY --body ${aws_ecr_repository.this.repository_url}

    # Subscribe, and send a photo:
    aws sns subscribe --region ${var.region} --topic-arn ${aws_sns_topic.events.arn} --protocol email --notification-endpoint you@example.com
    aws s3 cp local/samples/store-17/aisle-5/gaps.jpg s3://${module.photos.name}/store-17/cam-1/shelf.jpg

    # Look at what was given up:
    QUEUE_URL=${module.queue.url} AWS_DEFAULT_REGION=${var.region} python -m events.repair.replay
  EOT
}
