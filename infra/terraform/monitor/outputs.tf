output "settings_env" {
  description = "What goes into knative/settings/settings.env besides"
  value       = <<-EOT
    MONITOR_QUEUE_URL=${module.queue.url}
    DIGEST_TOPIC_ARN=${aws_sns_topic.digest.arn}
  EOT
}

output "next" {
  description = "The commands to type now"
  value       = <<-EOT
    %{~if var.database != null~}
    # The owner's password:
    aws secretsmanager get-secret-value --region ${var.region} --secret-id ${aws_db_instance.this[0].master_user_secret[0].secret_arn}
    # A user for the pods, whose password does not rotate with the owner's. Only the cluster's nodes reach the database:
    kubectl -n default run psql --rm -it --restart=Never --image=public.ecr.aws/docker/library/postgres:17 -- \
      psql "host=${aws_db_instance.this[0].address} dbname=monitor user=owner sslmode=require"
      CREATE ROLE monitor LOGIN PASSWORD '…';
      GRANT CREATE ON DATABASE monitor TO monitor; GRANT CREATE, USAGE ON SCHEMA public TO monitor;

    %{~endif~}
    kubectl -n ${var.namespace} create secret generic shelfwatch-monitor --from-literal=BOARD_TOKEN=… --from-literal=EVENTS_TOKEN="$(openssl rand -hex 32)" \
      --from-literal='DATABASE_URL=postgresql://monitor:…@${var.database == null ? "…" : aws_db_instance.this[0].address}/monitor?sslmode=require'

    # Read the digest:
    aws sns subscribe --region ${var.region} --topic-arn ${aws_sns_topic.digest.arn} --protocol email --notification-endpoint you@example.com
  EOT
}
