# The whole root without an account. ARNs and JSON have their form, since the provider checks it in mocks, too.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012", arn = "arn:aws:iam::123456789012:user/admin" }
  }
  mock_data "aws_iam_session_context" {
    defaults = { issuer_arn = "arn:aws:iam::123456789012:user/admin" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_ssm_parameter" {
    defaults = { insecure_value = "1.35.0-20260101", value = "1.35.0-20260101" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0-eksbuild.1" } # else another one in each run
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/role" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/policy" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/1" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn                       = "arn:aws:eks:eu-west-1:123456789012:cluster/shelfwatch"
      endpoint                  = "https://cluster.example"
      certificate_authority     = [{ data = "Y2E=" }]
      identity                  = [{ oidc = [{ issuer = "https://oidc.example/id/1" }] }]
      kubernetes_network_config = { ip_family = "ipv4", service_ipv4_cidr = "172.20.0.0/16" }
    }
  }
  mock_resource "aws_eks_node_group" {
    defaults = {
      resources = [{ autoscaling_groups = [{ name = "eks-nodes" }], remote_access_security_group_id = "" }]
    }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/shelfwatch/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/shelfwatch/1" }
  }
}
mock_provider "time" {}
mock_provider "cloudinit" {}
mock_provider "null" {}

variables {
  account_id = "123456789012"
  region     = "eu-west-1"
  api_cidrs  = ["192.0.2.0/24"]
  entrance = {
    allowed_cidrs = ["192.0.2.0/24"]
  }
}

################################################################################
# Nodes move from blue to green
################################################################################

run "blue" {
  assert {
    condition     = keys(module.eks.eks_managed_node_groups) == ["blue"]
    error_message = "One node group was asked for."
  }
}

run "green_joins" {
  command = plan
  variables {
    node_groups = { blue = {}, green = { ami_release_version = "1.35.1-20260201" } }
  }
}

run "green_joined" {
  variables {
    node_groups = { blue = {}, green = { ami_release_version = "1.35.1-20260201" } }
  }

  assert {
    condition     = output.entrance == run.blue.entrance
    error_message = "The way in was replaced."
  }
}

run "blue_leaves" {
  command = plan
  variables {
    node_groups = { green = { ami_release_version = "1.35.1-20260201" } }
  }
}

run "no_way_in" {
  command = plan
  variables {
    entrance = null
  }

  assert {
    condition     = length(module.entrance) == 0
    error_message = "A load balancer that nobody asked for."
  }
}

################################################################################
# What is refused
################################################################################

run "api_for_the_whole_internet" {
  command = plan
  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_cidrs]
}

run "too_few_types" {
  command = plan
  variables {
    node_groups = { blue = { instance_types = ["m7i-flex.large", "c7i-flex.large"] } }
  }
  expect_failures = [var.node_groups]
}

run "t3_small" {
  command = plan
  variables {
    node_groups = { blue = { instance_types = ["t3.small", "m7i-flex.large", "c7i-flex.large", "m7i.large", "c7i.large", "m6i.large"] } }
  }
  expect_failures = [var.node_groups]
}

run "two_nodes" {
  command = plan
  variables {
    node_groups = { blue = { size = 2 } }
  }
  expect_failures = [var.node_groups]
}

run "name_too_long_for_a_target_group" {
  command = plan
  variables {
    name = "shelfwatch-of-northern-stores"
  }
  expect_failures = [var.name]
}

run "network_too_small_for_pods" {
  command = plan
  variables {
    vpc_cidr = "10.42.0.0/20"
  }
  expect_failures = [var.vpc_cidr]
}

run "two_zones" {
  command = plan
  variables {
    zones = ["a", "b"]
  }
  expect_failures = [var.zones]
}
