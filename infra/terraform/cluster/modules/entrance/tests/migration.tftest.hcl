# Nodes move from blue to green: the plans of the steps are read by tests/test_terraform.py, which lets
# nothing but attachments change.

mock_provider "aws" {
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/shelfwatch/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/shelfwatch/1" }
  }
}

variables {
  name                   = "shelfwatch"
  vpc_id                 = "vpc-1"
  subnet_ids             = ["subnet-1", "subnet-2", "subnet-3"]
  internal               = false
  allowed_cidrs          = ["192.0.2.0/24"]
  ports                  = { 80 = 31080, 443 = 31443 }
  domain                 = { name = "shelves.example.com", hosted_zone_id = "Z1" }
  node_security_group_id = "sg-1"
}

run "blue" {
  variables {
    autoscaling_groups = { blue = "eks-blue-1" }
  }
}

run "green_joins" {
  command = plan
  variables {
    autoscaling_groups = { blue = "eks-blue-1", green = "eks-green-1" }
  }
}

run "green_joined" {
  variables {
    autoscaling_groups = { blue = "eks-blue-1", green = "eks-green-1" }
  }

  assert {
    condition     = output.dns_name == run.blue.dns_name
    error_message = "The load balancer was replaced."
  }
}

run "blue_leaves" {
  command = plan
  variables {
    autoscaling_groups = { green = "eks-green-1" }
  }
}
