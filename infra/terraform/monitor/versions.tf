terraform {
  required_version = ">= 1.11" # the S3 backend locks by itself, and mocks hold during a plan

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.69"
    }
  }

  # Bucket and region come from infra/bootstrap.sh, as -backend-config.
  backend "s3" {
    key          = "shelfwatch/monitor.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id] # a profile of another account stops here

  default_tags {
    tags = { project = var.name }
  }
}
