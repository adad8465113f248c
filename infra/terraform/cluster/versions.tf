terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.69"
    }

    # What the modules want besides, named here so that tests can stand in for them.
    cloudinit = { source = "hashicorp/cloudinit", version = ">= 2.0" }
    null      = { source = "hashicorp/null", version = ">= 3.0" }
    time      = { source = "hashicorp/time", version = ">= 0.9" }
  }

  # Bucket and region come from infra/bootstrap.sh, as -backend-config.
  backend "s3" {
    key          = "cluster/terraform.tfstate"
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
