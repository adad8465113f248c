"""infra/bootstrap.sh against commands that keep an account, a cluster and a log in a folder."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

ACCOUNT = "123456789012"
BUCKET = f"shelfwatch-terraform-{ACCOUNT}"

SETTINGS = f"""
ACCOUNT_ID={ACCOUNT}
AWS_REGION=eu-west-1
TF_VAR_api_cidrs='["192.0.2.0/24"]'
GITHUB_REPOSITORY=example/shelfwatch
GITHUB_SUBJECT=example@1/shelfwatch@2
"""

# Without these rooms of the repository: what bootstrap.sh reads of them.
APPLICATION = """
  sources:
    - repoURL: https://argoproj.github.io/argo-helm
      chart: argo-cd
      targetRevision: 10.1.1
    - repoURL: GIT_REPOSITORY
      targetRevision: main
"""
MANIFEST_SETTINGS = """# What the manifests take.
#QUEUE_URL=https://sqs.eu-central-1.amazonaws.com/000000000000/shelfwatch-photos
#DOMAIN=shelves.example.com
#GIT_REPOSITORY=https://github.com/someone/else.git
"""
OVERLAY = """resources:
  - ../../base
components: # the public way
  - ../../public
images: []
"""

# $WORLD is the account and the cluster: a file for each thing that was made.
STAND_INS = {
    "aws": r"""
        case "$1 $2" in
          "sts get-caller-identity") echo "${CALLER-123456789012}" ;;
          "s3api head-bucket")
            [[ ! -e $WORLD/strange ]] || { echo "error (403): Forbidden" >&2; exit 254; }
            [[ -e $WORLD/bucket ]] || { echo "error (404): Not Found" >&2; exit 254; } ;;
          "s3api create-bucket")
            [[ ! -e $WORLD/bucket ]] || { echo "BucketAlreadyOwnedByYou" >&2; exit 254; }
            touch "$WORLD/bucket" ;;
          "s3api put-bucket-versioning") touch "$WORLD/versioned" ;;
          "s3api put-public-access-block") touch "$WORLD/private" ;;
          "eks update-kubeconfig") [[ -e $WORLD/cluster ]] ;;
          *) exit 9 ;;
        esac
    """,
    "terraform": r"""
        root=${1##*/}
        case $2 in
          init) [[ -e $WORLD/bucket && -e $WORLD/versioned && -e $WORLD/private ]] ;;
          apply)
            [[ ! -e $WORLD/broken-$root ]] || { echo "Error: $root" >&2; exit 1; }
            [[ $root == cluster || -e $WORLD/cluster ]]
            env | grep '^TF_VAR_' | sort >"$WORLD/$root" ;;
          output)
            [[ -e $WORLD/$root ]]
            if [[ $4 == settings_env ]]; then
              printf 'QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-photos\nIMAGE=unasked'
            else
              echo "next of $root"
            fi ;;
          *) exit 9 ;;
        esac
    """,
    "helm": r"""[[ -e $WORLD/cluster ]] && touch "$WORLD/argocd" """,
    "kubectl": r"""
        [[ $KUBECONFIG == */build/kubeconfig ]] # and not what the person has
        case "$*" in
          "kustomize "*) grep -q ^GIT_REPOSITORY= knative/settings/settings.env ;;
          "get namespace monitoring") [[ -e $WORLD/monitoring ]] ;;
          "create namespace monitoring") touch "$WORLD/monitoring" ;;
          "-n monitoring get secret grafana-admin") [[ -e $WORLD/password ]] ;;
          "-n monitoring create secret generic grafana-admin"*) cat >"$WORLD/password" ;;
          "wait "*) [[ -e $WORLD/cluster ]] ;;
          "get namespace shelfwatch") [[ -e $WORLD/namespace ]] ;;
          "create namespace shelfwatch") touch "$WORLD/namespace" ;;
          "-n shelfwatch get secret shelfwatch-tokens") [[ -e $WORLD/token ]] ;;
          "-n shelfwatch create secret"*) [[ -e $WORLD/namespace ]] && cat >"$WORLD/token" ;;
          "-n argocd get secret git-creds") [[ -e $WORLD/git-creds ]] ;;
          "apply -k argocd/"*) [[ -e $WORLD/argocd ]] && echo "$3" >"$WORLD/root" ;;
          *) exit 9 ;;
        esac
    """,
}


@dataclass
class Bootstrap:
    """A copy of what the script needs, and commands that stand in for the real ones."""

    repository: Path
    world: Path

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.repository / "infra" / "bootstrap.sh", *arguments],
            env={**self.env(), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def env(self) -> dict[str, str]:
        path = f"{self.repository / 'bin'}:{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.world),
            "WORLD": str(self.world),
            "PUSH_SECONDS": "0",  # nobody pushes meanwhile
        }

    def push(self) -> None:
        """Commit the settings and push them, as the person is told to."""
        self.git("commit", "-qam", "Set the account")
        self.git("push", "-q", "origin", "HEAD:main")

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=self.repository, check=True)

    def calls(self) -> list[str]:
        """Take the calls that were made since the last time."""
        log = self.world / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def made(self) -> set[str]:
        return {path.name for path in self.world.iterdir()} - {"calls"}

    def read(self, name: str) -> str:
        return (self.world / name).read_text()


@pytest.fixture
def bootstrap(tmp_path: Path) -> Bootstrap:
    repository, world = tmp_path / "repository", tmp_path / "world"
    for folder in ("infra", "bin", "argocd/platform", "knative/settings", "knative/overlays/prod"):
        (repository / folder).mkdir(parents=True)
    for root in ("prod", "keda"):
        (repository / "argocd" / root).mkdir()
        (repository / "argocd" / root / "kustomization.yaml").touch()
    world.mkdir()
    shutil.copy(ROOT / "infra" / "bootstrap.sh", repository / "infra")
    (repository / "infra" / "settings.env").write_text(SETTINGS)
    for name, text in (
        ("argocd/platform/argo-cd.yaml", APPLICATION),
        ("knative/settings/settings.env", MANIFEST_SETTINGS),
        ("knative/overlays/prod/kustomization.yaml", OVERLAY),
    ):
        real = ROOT / name
        (repository / name).write_text(real.read_text() if real.exists() else text)
    for name, body in STAND_INS.items():
        command = repository / "bin" / name
        log = f'echo "{name} $*" >>"$WORLD/calls"'
        command.write_text(f"#!/usr/bin/env bash\nset -e\n{log}\n{body}\n")
        command.chmod(0o755)
    (repository / ".gitignore").write_text("build/\ninfra/settings.env\n")
    made = Bootstrap(repository, world)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "remote"], check=True)
    made.git("init", "-q", "-b", "main")
    made.git("remote", "add", "origin", str(tmp_path / "remote"))
    made.git("add", ".")
    made.git("commit", "-qm", "all")
    made.git("push", "-q", "origin", "HEAD:main")
    return made


EVERYTHING = {
    *("bucket", "versioned", "private", "cluster", "shelfwatch"),
    *("argocd", "namespace", "token", "monitoring", "password", "root"),
}


def test_an_empty_account_gets_everything_and_a_second_run_changes_nothing(
    bootstrap: Bootstrap,
) -> None:
    early = bootstrap.run("--yes")
    assert (early.returncode, early.stderr.count("commit and push")) == (1, 1)
    # Nothing has been told to read Git yet.
    assert bootstrap.made() == EVERYTHING - {"root"}
    bootstrap.push()
    first = bootstrap.run("--yes")
    assert (first.returncode, first.stderr) == (0, "")
    assert bootstrap.made() == EVERYTHING
    assert f"create-bucket --bucket {BUCKET}" in "\n".join(bootstrap.calls())
    token = bootstrap.read("token")
    assert len(token) == 64
    settings = bootstrap.repository / "knative" / "settings" / "settings.env"
    filled = settings.read_text()

    second = bootstrap.run("--yes")
    assert (second.returncode, second.stderr) == (0, "")
    assert bootstrap.made() == EVERYTHING
    assert bootstrap.read("token") == token
    assert settings.read_text() == filled
    assert not [call for call in bootstrap.calls() if " create" in call]


def test_the_settings_of_the_manifests_are_those_that_terraform_made(
    bootstrap: Bootstrap,
) -> None:
    done = bootstrap.run("--yes")
    settings = (bootstrap.repository / "knative" / "settings" / "settings.env").read_text()
    lines = settings.splitlines()
    assert "QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-photos" in lines
    assert "GIT_REPOSITORY=https://github.com/example/shelfwatch.git" in lines
    assert lines[0].startswith("# ")
    assert [line for line in lines if line.startswith("#DOMAIN=")]  # not known: left as it is
    assert "git commit" in done.stdout
    bootstrap.push()
    done = bootstrap.run("--yes")
    assert "git commit" not in done.stdout
    assert "create secret generic git-creds" in done.stdout
    assert done.stdout.endswith("next of cluster\n\nnext of shelfwatch\n")


def test_argo_cd_is_given_the_reins_when_main_has_the_settings(bootstrap: Bootstrap) -> None:
    overlay = bootstrap.repository / "knative/overlays/prod/kustomization.yaml"
    assert "../../public" in overlay.read_text()
    process = subprocess.Popen(
        [bootstrap.repository / "infra" / "bootstrap.sh", "--yes"],
        env={**bootstrap.env(), "PUSH_SECONDS": "60"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("waits for: git commit"):
            break
    assert "root" not in bootstrap.made()
    assert "../../public" not in overlay.read_text()  # there is no domain
    bootstrap.push()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "root" in bootstrap.made()


def test_a_domain_brings_the_public_way_back(bootstrap: Bootstrap) -> None:
    overlay = bootstrap.repository / "knative/overlays/prod/kustomization.yaml"
    bootstrap.run("--yes")
    assert "components" not in overlay.read_text()
    with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
        settings.write("DOMAIN=a.example.com\nHOSTED_ZONE_ID=Z1\nCERTIFICATE_EMAIL=a@example.com\n")
    bootstrap.run("--yes")
    assert components(bootstrap) == ["../../public"]
    filled = (bootstrap.repository / "knative/settings/settings.env").read_text().splitlines()
    assert "DOMAIN=a.example.com" in filled
    bootstrap.push()
    assert bootstrap.run("--yes").returncode == 0


def components(bootstrap: Bootstrap) -> list[str]:
    overlay = bootstrap.repository / "knative/overlays/prod/kustomization.yaml"
    found: list[str] = yaml.safe_load(overlay.read_text()).get("components", [])
    return found


@pytest.mark.parametrize(
    ("before", "domain", "after"),
    [
        ([], False, []),
        ([], True, ["../../public"]),
        (["../../public"], True, ["../../public"]),
        (["../../public"], False, []),
        (["../../uploads"], False, ["../../uploads"]),
        (["../../uploads"], True, ["../../public", "../../uploads"]),
        (["../../public", "../../uploads"], False, ["../../uploads"]),
        (["../../uploads", "../../public"], False, ["../../uploads"]),
    ],
)
def test_only_the_public_way_comes_and_goes_with_the_domain(
    bootstrap: Bootstrap, before: list[str], domain: bool, after: list[str]
) -> None:
    overlay = bootstrap.repository / "knative/overlays/prod/kustomization.yaml"
    lines = ["resources: [../../base]", *(["components: # some"] if before else [])]
    lines += [*(f"  - {name}" for name in before), "images: []"]
    overlay.write_text("\n".join(lines) + "\n")
    if domain:
        with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
            settings.write("DOMAIN=a.example.com\nHOSTED_ZONE_ID=Z1\nCERTIFICATE_EMAIL=a@b.c\n")
    for _ in range(2):
        bootstrap.run("--yes")
        assert sorted(components(bootstrap)) == sorted(after)
        assert yaml.safe_load(overlay.read_text())["images"] == []
    assert bootstrap.made() == EVERYTHING - {"root"}
    bootstrap.push()
    assert bootstrap.run("--yes").returncode == 0


def test_components_in_brackets_are_refused(bootstrap: Bootstrap) -> None:
    overlay = bootstrap.repository / "knative/overlays/prod/kustomization.yaml"
    overlay.write_text("components: [../../uploads]\n")
    done = bootstrap.run("--yes")
    assert "must stand on a line of its own" in done.stderr
    assert overlay.read_text() == "components: [../../uploads]\n"


def test_a_later_run_keeps_the_root_that_was_chosen(bootstrap: Bootstrap) -> None:
    with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
        settings.write("ARGOCD_ROOT=argocd/keda\n")
    bootstrap.run("--yes")
    bootstrap.push()
    for _ in range(2):
        assert bootstrap.run("--yes").returncode == 0
        assert bootstrap.read("root") == "argocd/keda\n"


def test_what_terraform_gets_can_be_had_without_a_run(bootstrap: Bootstrap) -> None:
    told = bootstrap.run("--export")
    assert (told.returncode, bootstrap.calls()) == (0, [])
    script = 'eval "$EXPORTED"; env | grep -E "^(TF_VAR_|AWS_REGION=)" | sort'
    env = {"EXPORTED": told.stdout, "PATH": os.environ["PATH"]}
    shown = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True).stdout
    bootstrap.run("--yes")
    assert shown == "AWS_REGION=eu-west-1\n" + bootstrap.read("shelfwatch")


def test_a_certificate_wants_somebody_to_write_to(bootstrap: Bootstrap) -> None:
    with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
        settings.write("DOMAIN=a.example.com\nHOSTED_ZONE_ID=Z1\n")
    done = bootstrap.run("--yes")
    assert done.stderr == (
        "bootstrap: DOMAIN is set, and CERTIFICATE_EMAIL is empty in infra/settings.env\n"
    )
    assert bootstrap.calls() == []


def test_terraform_gets_the_settings(bootstrap: Bootstrap) -> None:
    bootstrap.run("--yes")
    assert bootstrap.read("shelfwatch").splitlines() == [
        f"TF_VAR_account_id={ACCOUNT}",
        'TF_VAR_api_cidrs=["192.0.2.0/24"]',
        "TF_VAR_github_repository=example@1/shelfwatch@2",
        "TF_VAR_name=shelfwatch",
        "TF_VAR_region=eu-west-1",
    ]


def test_a_domain_opens_the_way_in(bootstrap: Bootstrap) -> None:
    with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
        settings.write("DOMAIN=shelves.example.com\nHOSTED_ZONE_ID=Z1\nCERTIFICATE_EMAIL=a@b.c\n")
    bootstrap.run("--yes")
    variables = bootstrap.read("cluster")
    assert 'domain={name="shelves.example.com",hosted_zone_id="Z1"}' in variables
    assert 'TF_VAR_cert_manager={hosted_zone_id="Z1"}' in variables


def test_argo_cd_has_the_version_that_its_application_keeps(bootstrap: Bootstrap) -> None:
    bootstrap.run("--yes")
    application = (bootstrap.repository / "argocd" / "platform" / "argo-cd.yaml").read_text()
    (call,) = [call for call in bootstrap.calls() if call.startswith("helm ")]
    version = call.split("--version ")[1].split()[0]
    assert f"chart: argo-cd\n      targetRevision: {version}\n" in application


def test_terraform_asks_unless_told_not_to(bootstrap: Bootstrap) -> None:
    bootstrap.run("--yes")
    assert [call for call in bootstrap.calls() if call.endswith("apply -auto-approve")]
    bootstrap.run()
    applied = [call for call in bootstrap.calls() if " apply" in call and "terraform" in call]
    assert len(applied) == 2
    assert not [call for call in applied if "approve" in call]


def test_a_run_that_broke_off_is_finished_by_the_next(bootstrap: Bootstrap) -> None:
    (bootstrap.world / "broken-shelfwatch").touch()
    broken = bootstrap.run("--yes")
    assert broken.returncode != 0
    assert "Error: shelfwatch" in broken.stderr
    assert bootstrap.made() == {"bucket", "versioned", "private", "cluster", "broken-shelfwatch"}
    (bootstrap.world / "broken-shelfwatch").unlink()
    bootstrap.run("--yes")
    assert bootstrap.made() == EVERYTHING - {"root"}


def test_another_account_is_left_alone(bootstrap: Bootstrap) -> None:
    done = bootstrap.run("--yes", CALLER="999999999999")
    assert done.returncode == 1
    assert "these credentials are of account 999999999999, and ACCOUNT_ID is" in done.stderr
    assert bootstrap.made() == set()


def test_a_strangers_bucket_takes_no_state(bootstrap: Bootstrap) -> None:
    (bootstrap.world / "strange").touch()
    done = bootstrap.run("--yes")
    assert done.returncode == 1
    assert f"s3://{BUCKET} cannot be used: error (403)" in done.stderr
    assert bootstrap.made() == {"strange"}


@pytest.mark.parametrize(
    "setting", ["ACCOUNT_ID", "AWS_REGION", "GITHUB_REPOSITORY", "TF_VAR_api_cidrs"]
)
def test_a_missing_setting_is_named_before_anything_is_asked(
    bootstrap: Bootstrap, setting: str
) -> None:
    settings = bootstrap.repository / "infra" / "settings.env"
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join(line for line in lines if not line.startswith(setting)))
    done = bootstrap.run("--yes")
    assert (done.returncode, done.stderr) == (
        1,
        f"bootstrap: {setting} is empty in infra/settings.env\n",
    )
    assert bootstrap.calls() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ACCOUNT_ID = 123456789012", "a line of infra/settings.env must be NAME=value"),
        ("ACCOUNT_ID= 123456789012", "a line of infra/settings.env must be NAME=value"),
        ('TF_VAR_api_cidrs=["192.0.2.0/24", "10.0.0.0/8"]', "must be NAME=value"),
        ("touch $WORLD/oops", "must be NAME=value"),
        ("AWS_REGION=eu-west-1\r", "must have the line ends of Unix, got those of Windows"),
        ("ACCOUNT_ID=12345678901", "must be the twelve digits of an account, got '12345678901'"),
        ("GITHUB_REPOSITORY=https://github.com/example/shelfwatch", "must be owner/name, got 'h"),
        ("TF_VAR_api_cidrs=192.0.2.0/24", "must be a list of blocks"),
        ("TF_VAR_name=ShelfWatch", "must be 2 to 28 of a-z, 0-9 and single -"),
        ("TF_VAR_name=shelves--north", "got 'shelves--north'"),
        ("TF_VAR_name=shelfwatch-of-northern-stores", "TF_VAR_name must be 2 to 28"),
        ("TF_VAR_namespace=shops", "TF_VAR_namespace must be 'shelfwatch'"),
        ("TF_VAR_cluster_name=retail", "TF_VAR_cluster_name must be 'shelfwatch'"),
        ("TF_VAR_github_branch=trunk", "TF_VAR_github_branch must be 'main'"),
        ("GIT_REMOTE=upstream", "must be a remote of this clone, got 'upstream'"),
        ("ARGOCD_ROOT=argocd/nowhere", "must be a folder like argocd/prod, got 'argocd/nowhere'"),
    ],
)
def test_an_odd_setting_is_named_before_anything_is_asked(
    bootstrap: Bootstrap, line: str, words: str
) -> None:
    with (bootstrap.repository / "infra" / "settings.env").open("a", newline="") as settings:
        settings.write(f"{line}\n")
    done = bootstrap.run("--yes")
    assert done.returncode == 1
    assert done.stderr.startswith("bootstrap: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert bootstrap.calls() == []
    assert bootstrap.made() == set()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "  # a word",
        "TF_VAR_name= # the usual one",
        "TF_VAR_node_groups='{blue={}, green={}}'        # 1. both",
        "TF_VAR_namespace=shelfwatch",
        "TF_VAR_cluster_name=",
        "TF_VAR_upload_prefixes='[\"store-17/\"]'",
        'TF_VAR_alarm_email="a b@example.com"',
        "  export AWS_PROFILE=retail",
    ],
)
def test_an_ordinary_line_is_taken(bootstrap: Bootstrap, line: str) -> None:
    with (bootstrap.repository / "infra" / "settings.env").open("a") as settings:
        settings.write(f"{line}\n")
    assert bootstrap.run("--export").returncode == 0
    assert "shelfwatch" in bootstrap.run("--export").stdout


def test_a_remote_that_does_not_answer_is_not_waited_for(bootstrap: Bootstrap) -> None:
    shutil.rmtree(bootstrap.repository.parent / "remote")
    done = bootstrap.run("--yes", PUSH_SECONDS="600")
    assert done.returncode == 1
    assert done.stderr.endswith("main of origin cannot be fetched: what git said is above\n")


def test_the_example_is_refused_until_it_is_filled_in(bootstrap: Bootstrap) -> None:
    settings = bootstrap.repository / "infra" / "settings.env"
    shutil.copy(ROOT / "infra" / "settings.env.example", settings)
    for setting, value in (
        ("ACCOUNT_ID", ACCOUNT),
        ("GITHUB_REPOSITORY", "example/shelfwatch"),
        ("TF_VAR_api_cidrs", "'[\"198.51.100.7/32\"]'"),
    ):
        done = bootstrap.run("--export")
        assert done.stderr == f"bootstrap: {setting} is empty in infra/settings.env\n"
        text = settings.read_text()
        settings.write_text(text.replace(f"\n{setting}=\n", f"\n{setting}={value}\n"))
    assert bootstrap.run("--export").returncode == 0


def test_the_example_has_every_setting_that_is_asked_for() -> None:
    example = (ROOT / "infra" / "settings.env.example").read_text()
    for setting in [*(line.split("=")[0] for line in SETTINGS.split()), "DOMAIN", "HOSTED_ZONE_ID"]:
        assert f"\n{setting}=" in example


@pytest.mark.parametrize("arguments", [["--force"], ["yes"]])
def test_an_odd_argument_does_nothing(bootstrap: Bootstrap, arguments: list[str]) -> None:
    done = bootstrap.run(*arguments)
    assert (done.returncode, done.stderr) == (2, "usage: infra/bootstrap.sh [--yes | --export]\n")
    assert bootstrap.calls() == []
