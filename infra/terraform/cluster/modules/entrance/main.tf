# The way in for people and callers outside: one network load balancer in front of whatever nodes there
# are. It passes TCP on; Kourier ends TLS, with the certificate that cert-manager renews. Nodes join by
# their auto scaling group, so a new node group changes attachments and nothing else: the address stays.

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91: an NLB logs handshakes of TLS that it ends itself, and it ends none; who asked what is in the function's log
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = var.internal
  subnets                          = var.subnet_ids
  security_groups                  = [aws_security_group.this.id]
  enable_cross_zone_load_balancing = true                    # three nodes do not spread evenly
  enable_deletion_protection       = var.deletion_protection # its address is in the DNS of the stores
}

resource "aws_lb_listener" "tcp" {
  for_each = var.ports

  load_balancer_arn = aws_lb.this.arn
  port              = each.key
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.nodes[each.key].arn
  }
}

resource "aws_lb_target_group" "nodes" {
  for_each = var.ports

  name                 = "${var.name}-${each.key}"
  vpc_id               = var.vpc_id
  target_type          = "instance"
  port                 = each.value
  protocol             = "TCP"
  deregistration_delay = 90 # a Spot node has 120 s

  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_autoscaling_attachment" "nodes" {
  #checkov:skip=CKV2_AWS_15: the group is EKS's own, and it replaces a node that is not healthy (node_repair_config)
  for_each = {
    for pair in setproduct(keys(var.autoscaling_groups), keys(var.ports)) : "${pair[0]} ${pair[1]}" => pair
  }

  autoscaling_group_name = var.autoscaling_groups[each.value[0]]
  lb_target_group_arn    = aws_lb_target_group.nodes[each.value[1]].arn
}

################################################################################
# Callers -> load balancer -> the node ports, and nothing else
################################################################################

resource "aws_security_group" "this" {
  name        = "${var.name}-entrance"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  #checkov:skip=CKV_AWS_260: port 80 answers with a redirect to HTTPS; who may connect is a variable
  for_each = {
    for pair in setproduct(var.allowed_cidrs, keys(var.ports)) : "${pair[0]} ${pair[1]}" => pair
  }

  security_group_id = aws_security_group.this.id
  description       = "Callers"
  cidr_ipv4         = each.value[0]
  ip_protocol       = "tcp"
  from_port         = each.value[1]
  to_port           = each.value[1]
}

resource "aws_vpc_security_group_egress_rule" "nodes" {
  for_each = var.ports

  security_group_id            = aws_security_group.this.id
  description                  = "Kourier on the nodes"
  referenced_security_group_id = var.node_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "nodes" {
  for_each = var.ports

  security_group_id            = var.node_security_group_id
  description                  = "Kourier, from the load balancer"
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

################################################################################
# Name
################################################################################

resource "aws_route53_record" "this" {
  count = var.domain == null ? 0 : 1

  zone_id = var.domain.hosted_zone_id
  name    = var.domain.name
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
