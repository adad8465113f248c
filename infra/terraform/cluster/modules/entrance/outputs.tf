output "dns_name" {
  description = "What the host name's CNAME points to"
  value       = aws_lb.this.dns_name
}
