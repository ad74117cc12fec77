"""
The policy's rules: each has a small program in `programs_breaking/` that breaks that rule and no other.

The programs run under the review's recording monitor, with the SDK's own classes; cases of one input are tables here.
"""

import base64
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.policy import RULES, Finding, check
from infra.policy.network import is_wide
from infra.policy.secrets import secret_in
from infra.review.declare import Declared, declare

PROGRAMS = Path(__file__).parent / "programs_breaking"


def of_program(rule: str) -> list[Finding]:
    return check(declare(PROGRAMS, None, {"azure-native:location": "westeurope", "rule": rule}))


def resource(type_: str, name: str = "it", **inputs: Any) -> Declared:
    """One resource with these inputs, and an id as Azure would give it."""
    return Declared(
        urn=f"urn:pulumi:test::tensoryard::{type_}::{name}",
        type=f"azure-native:{type_}",
        name=name,
        id=f"/subscriptions/s/resourceGroups/g/providers/{type_}/{name}",
        inputs=inputs,
    )


def found(*resources: Declared) -> set[str]:
    return {finding.rule for finding in check(resources)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_program_that_breaks_one_rule_is_told_that_one(rule: Any) -> None:
    findings = [finding for finding in of_program(rule.id) if finding.excepted_because is None]

    assert {rule.id} == {finding.rule for finding in findings}
    assert all(finding.severity == rule.severity and finding.fix == rule.fix for finding in findings)


def test_a_sound_program_is_told_nothing() -> None:
    assert of_program("none") == []


def test_every_breaking_program_is_of_a_rule() -> None:
    programs = {path.stem.replace("_", "-") for path in (PROGRAMS / "infra").glob("*.py")}

    assert {rule.id for rule in RULES} == programs - {"--init--", "--main--", "sound", "none"}


def test_every_rule_explains_itself() -> None:
    """The review, SARIF and the policy pack show all of it to people who have never seen this code."""
    assert len(RULES) == len({rule.id for rule in RULES})
    for rule in RULES:
        assert rule.id == rule.id.lower().replace("_", "-").strip("-")
        assert not rule.title.endswith(".")
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_real_program_passes_its_own_policy(
    declared: Callable[[str | Mapping[str, Any]], list[Declared]], stack: str
) -> None:
    assert [finding for finding in check(declared(stack)) if finding.excepted_because is None] == []


@pytest.mark.parametrize(
    "source",
    [
        *("*", "Internet", "internet", "Any", "AzureCloud", "AzureCloud.WestEurope"),
        *("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/7", "2000::/3", "1.0.0.0-9.0.0.0"),
    ],
)
def test_a_source_that_is_everybody_is_wide(source: str) -> None:
    assert is_wide(source)


@pytest.mark.parametrize(
    "source", ["10.0.0.0/8", "203.0.113.7", "2001:db8::/32", "VirtualNetwork", "AzureLoadBalancer"]
)
def test_a_source_that_is_some_known_networks_is_not_wide(source: str) -> None:
    assert not is_wide(source)


@pytest.mark.parametrize(
    ("rule", "finds"),
    [
        ({"sourceAddressPrefixes": ["10.0.0.0/8", "Internet"], "destinationPortRange": "22"}, {"ssh-open"}),
        ({"sourceAddressPrefix": "*", "destinationPortRanges": ["80", "20-25"]}, {"ssh-open"}),
        ({"sourceAddressPrefix": "*", "destinationPortRange": "*"}, {"ssh-open"}),
        ({"sourceAddressPrefix": "*", "destinationPortRange": "2222"}, {"port-open"}),
        ({"destinationPortRange": "443"}, {"port-open"}),
        ({"sourceAddressPrefix": "*", "destinationPortRange": "*", "access": "Deny"}, set()),
        ({"sourceAddressPrefix": "*", "destinationPortRange": "*", "direction": "Outbound"}, set()),
        ({"sourceAddressPrefix": "198.51.100.0/24", "destinationPortRange": "22"}, set()),
    ],
)
def test_security_rules_are_judged_by_source_and_port(rule: dict[str, Any], finds: set[str]) -> None:
    """Whether it stands inside its group or as a resource of its own."""
    written = {"name": "in", "direction": "Inbound", "access": "Allow", **rule}
    alone = resource("network:SecurityRule", **written)
    inside = resource("network:NetworkSecurityGroup", securityRules=[written])

    assert finds == found(alone)
    assert finds == found(inside) - {"tags-missing"}


def test_subnets_inside_a_network_need_groups_too() -> None:
    tags = {"workspace": "w", "stack": "s", "managed-by": "pulumi"}
    subnets = [
        {"name": "nodes", "addressPrefix": "10.0.0.0/24"},
        {"name": "GatewaySubnet", "addressPrefix": "10.0.1.0/27"},
    ]

    (finding,) = check([resource("network:VirtualNetwork", tags=tags, subnets=subnets)])

    assert finding.rule == "subnet-without-group"
    assert "`nodes`" in finding.problem


def test_a_type_of_a_chosen_api_version_is_the_same_type() -> None:
    account = resource("storage/v20240101:StorageAccount", allowBlobPublicAccess=True)

    assert "storage-public-blobs" in found(account)


def test_a_role_whose_scope_is_not_known_yet_is_judged_by_what_is_behind_it() -> None:
    """Before the first `up` ids are unknown; the engine still tells which resource an input comes from."""
    group = resource("resources:ResourceGroup", "workspace")
    given = {
        "scope": "[unknown]",
        "principalId": "[unknown]",
        "principalType": "ServicePrincipal",
        "roleDefinitionId": "/x/roleDefinitions/ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    }
    on_group = msgspec.structs.replace(
        resource("authorization:RoleAssignment", **given), property_dependencies={"scope": (group.urn,)}
    )

    assert {"role-scope-wide"} == found(group, on_group) - {"tags-missing"}
    assert set() == found(group, resource("authorization:RoleAssignment", **given)) - {"tags-missing"}


@pytest.mark.parametrize("scope", ["/", "/subscriptions/s", "/providers/Microsoft.Management/managementGroups/m"])
def test_no_role_is_given_above_the_resource_group(scope: str) -> None:
    reader = "/x/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7"
    given = {"roleDefinitionId": reader, "principalId": "p", "principalType": "User", "scope": scope}

    assert {"role-scope-wide"} == found(resource("authorization:RoleAssignment", **given))


def test_an_input_that_is_not_known_yet_breaks_no_rule_by_accident() -> None:
    """A policy pack judges previews, where any input may still be unknown."""
    unknown = [resource(type_, tags="[unknown]", **values) for type_, values in UNKNOWN_INPUTS.items()]

    assert {"tags-missing", "capacity-not-ignored"} == found(*unknown)


UNKNOWN_INPUTS: dict[str, dict[str, Any]] = {
    "network:NetworkSecurityGroup": {"securityRules": "[unknown]"},
    "compute:VirtualMachineScaleSet": {"virtualMachineProfile": "[unknown]", "sku": "[unknown]"}
    | {"orchestrationMode": "Uniform"},
    "authorization:RoleDefinition": {"permissions": "[unknown]"},
    "network:NetworkInterface": {"ipConfigurations": "[unknown]"},
}


# -- exceptions


def exception(rule: str, of: Declared, because: str) -> Declared:
    return Declared(
        urn=f"{of.urn}$tensoryard:policy:Exception::{rule}",
        type="tensoryard:policy:Exception",
        name=rule,
        custom=False,
        inputs={"rule": rule, "resource": of.urn, "because": because},
    )


OPEN = resource("network:SecurityRule", direction="Inbound", access="Allow", sourceAddressPrefix="*")
REASON = "This port is open for the length of the conference only"


def test_an_exception_keeps_the_finding_and_gives_its_reason() -> None:
    (finding,) = check([OPEN, exception("ssh-open", OPEN, REASON)])

    assert (finding.rule, finding.excepted_because) == ("ssh-open", REASON)


@pytest.mark.parametrize("because", ["", "ok", "we know this"])
def test_an_exception_without_a_sentence_excuses_nothing(because: str) -> None:
    findings = check([OPEN, exception("ssh-open", OPEN, because)])

    assert {("ssh-open", None), ("exception-unexplained", None)} == {
        (finding.rule, finding.excepted_because) for finding in findings
    }


def test_an_exception_to_another_rule_or_resource_is_itself_found() -> None:
    other = resource("network:SecurityRule", "other", direction="Outbound")
    for unused in (exception("port-open", OPEN, REASON), exception("ssh-open", other, REASON)):
        findings = check([OPEN, other, unused])

        assert {("ssh-open", None), ("exception-unused", None)} == {
            (finding.rule, finding.excepted_because) for finding in findings
        }


def test_an_exception_to_a_rule_that_is_not_there_says_so() -> None:
    findings = check([OPEN, exception("ssh-opened", OPEN, REASON)])

    assert [finding.problem for finding in findings if finding.rule == "exception-unused"] == [
        "there is no rule `ssh-opened`"
    ]


def test_exceptions_excuse_no_exception() -> None:
    bad = exception("ssh-open", OPEN, "")

    assert {"ssh-open", "exception-unexplained", "exception-unused"} == found(
        OPEN, bad, exception("exception-unexplained", bad, REASON)
    )


def test_the_worst_comes_first_and_what_is_excused_after_what_is_not() -> None:
    other = msgspec.structs.replace(OPEN, urn=f"{OPEN.urn}-2", name="other")
    group = resource("resources:ResourceGroup")
    findings = check([group, OPEN, other, exception("ssh-open", OPEN, REASON)])

    assert [(finding.severity, finding.name) for finding in findings] == [
        ("high", "other"),
        ("high", "it"),
        ("low", "it"),
    ]


# -- secrets

KEY = base64.b64encode(bytes(range(64))).decode()
SECRETS = {
    "a PEM key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "a storage account key": KEY,
    "a connection string": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY}",
    "a SAS": "https://a.blob.core.windows.net/c?sv=2024&sig=abcdefghijklmnopqrstuvwxyz0123456789ABCD%3D",
    "a JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "a password in YAML": "password: hunter22x",
    "a quoted password": 'export DB_PASSWORD="swordfish"',
    "a password option": "mysql --password correct-horse-9",
    "a client secret": "client_secret=8Q~abcdefghij",
    "a password in an address": "https://bot:hunter2@example.org/repo.git",
    "a password's hash": "passwd: $6$rounds=4096$saltsalt$abcdefghijklmnopqrstuvwxyz012345",
    "a random word": "munge qT7vX2nB9cL4mW8zR1kY6hJ3fD5gS0pAuEoNiMbV",
}
INNOCENT = {
    "an SSH public key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc2b8Zq0mX4r7Yt9uVw3nKpLhGfDsAeQiOzXcVbNmTy tyard",
    "a certificate": "-----BEGIN CERTIFICATE-----\n" + KEY + "\n-----END CERTIFICATE-----",
    "a digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "an Azure id": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tensoryard-dev/providers"
    "/Microsoft.Compute/virtualMachineScaleSets/gpucluster1a2b3c4d",
    "a variable": 'password="$(cat /run/secret)"\nTOKEN=$TOKEN\npassword: {{ password }}',
    "a token's address": "curl -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018'",
    "the name of a secret": "secret: munge-key\nvault_secret=/run/munge.key",
    "locked passwords": "lock_passwd: true\nssh_pwauth: false\nPasswordAuthentication no",
    "prose": "The access token: expires after an hour; the secret is read by identity",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_is_seen_plain_and_encoded(text: str) -> None:
    encoded = base64.b64encode(f"#cloud-config\n{text}\n".encode()).decode()
    zipped = base64.b64encode(gzip.compress(f"#cloud-config\n{text}\n".encode())).decode()
    nested = base64.b64encode(f"content: {encoded}\nencoding: b64".encode()).decode()

    for form in (text, encoded, zipped, nested):
        kind = secret_in(form)
        assert kind is not None
        assert text not in kind


@pytest.mark.parametrize("text", INNOCENT.values(), ids=INNOCENT.keys())
def test_what_only_looks_like_a_secret_is_let_through(text: str) -> None:
    encoded = base64.b64encode(f"#cloud-config\n{text}\n".encode()).decode()

    assert (secret_in(text), secret_in(encoded)) == (None, None)


@given(st.text(), st.binary(max_size=200))
def test_any_text_is_judged_without_an_error(text: str, data: bytes) -> None:
    secret_in(text)
    secret_in(base64.b64encode(data).decode())


@given(st.binary(min_size=64, max_size=64))
def test_every_storage_key_is_seen(data: bytes) -> None:
    """Storage account keys are 64 random bytes in base64."""
    assert secret_in(f"key is {base64.b64encode(data).decode()}") is not None
