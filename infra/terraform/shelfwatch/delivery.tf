################################################################################
# Images
################################################################################

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136: the image is what the public repository builds; ECR encrypts it with a key of its own
  name                 = var.name
  image_tag_mutability = "IMMUTABLE" # a tag is what was scanned and signed; Knative does not resolve digests for us

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    rules = [
      {
        # No rule for what has no tag: signatures and SBOMs have none, they refer to their image and go with it.
        rulePriority = 1
        description  = "Releases to go back to"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = 150 }
        action       = { type = "expire" }
      },
    ]
  })
}

################################################################################
# GitHub's workflows, without a stored key: this repository, this branch
################################################################################

locals {
  github     = "token.actions.githubusercontent.com"
  github_arn = "${local.arn_prefix}:iam::${var.account_id}:oidc-provider/${local.github}"
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_github_provider ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "push" {
  name        = "${var.name}-push"
  description = "Workflows of ${var.github_repository} on ${var.github_branch} push images"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "GitHub"
      Effect    = "Allow"
      Principal = { Federated = local.github_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      # Both exact: a pull request of a fork has the subject repo:…:pull_request.
      Condition = {
        StringEquals = {
          "${local.github}:aud" = "sts.amazonaws.com"
          "${local.github}:sub" = "repo:${var.github_repository}:ref:refs/heads/${var.github_branch}"
        }
      }
    }]
  })

  depends_on = [aws_iam_openid_connect_provider.github]
}

# https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
resource "aws_iam_role_policy" "push" {
  name = "calls"
  role = aws_iam_role.push.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "LogIn", Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }, # it takes no resource
      {
        Sid    = "Push"
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:InitiateLayerUpload",
          "ecr:UploadLayerPart",
          "ecr:CompleteLayerUpload",
          "ecr:PutImage",
          # cosign reads what it signs
          "ecr:BatchGetImage",
          "ecr:GetDownloadUrlForLayer",
        ]
        Resource = [aws_ecr_repository.this.arn]
      },
    ]
  })
}
