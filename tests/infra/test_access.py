"""Who is given what: the grants themselves, and the table that tells of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.names import guid
from infra.review.declare import Declared

Declare = Callable[[str | Mapping[str, Any]], list[Declared]]
PERSON = "11111111-2222-3333-4444-555555555555"
TEAM = "66666666-7777-8888-9999-000000000000"
USERS = {"users": [{"objectId": PERSON, "name": "ada"}, {"objectId": TEAM, "kind": "Group"}]}


def assignments(resources: list[Declared]) -> dict[str, Declared]:
    return {each.name: each for each in resources if each.type == "azure-native:authorization:RoleAssignment"}


def granted_to(resources: list[Declared], who: str) -> set[tuple[str, str]]:
    rows = resources[-1].outputs["access"]
    return {(row["role"], row["scope"]) for row in rows if row["identity"] == who}


def test_nodes_pull_images_and_read_the_munge_key_and_no_script_on_one_reaches_the_storage(declared: Declare) -> None:
    assert {
        ("AcrPull", "registry"),
        ("Key Vault Secrets User", "vault"),
    } == granted_to(declared({}), "nodes-gpucluster")


def test_images_are_pushed_by_who_builds_them_and_pulled_by_nodes(declared: Declare) -> None:
    rows = declared({"clusters": [{"name": "one"}, {"name": "two"}], **USERS})[-1].outputs["access"]
    given = {row["identity"]: row["role"] for row in rows if row["scope"] == "registry"}

    assert given == {
        "head": "AcrPush",
        "nodes-one": "AcrPull",
        "nodes-two": "AcrPull",
        "ada": "AcrPush",
        f"user-{TEAM}": "AcrPush",
    }


def test_the_head_may_have_the_registry_build_images_where_that_was_chosen(declared: Declare) -> None:
    role = ("Tensoryard image builder", "registry")

    assert role in granted_to(declared({"imageBuilder": "acr-tasks"}), "head")
    assert role not in granted_to(declared({}), "head")


def test_only_people_touch_models(declared: Declare) -> None:
    rows = declared({"clusters": [{"name": "one"}, {"name": "two"}], **USERS})[-1].outputs["access"]

    assert {"ada", f"user-{TEAM}"} == {row["identity"] for row in rows if row["scope"] == "container-models"}


def test_the_head_may_grow_each_cluster_and_nothing_else(declared: Declare) -> None:
    grants = granted_to(declared({"clusters": [{"name": "one"}, {"name": "two"}]}), "head")

    assert {
        ("Tensoryard scale set operator", "scale-set-one"),
        ("Tensoryard scale set operator", "scale-set-two"),
        ("Managed Identity Operator", "identity-one"),
        ("Managed Identity Operator", "identity-two"),
        ("Tensoryard node operator", "resource-group"),
        ("Tensoryard subnet joiner", "subnet-nodes"),
    } == {grant for grant in grants if grant[1] not in ("container-runs", "container-data", "registry", "vault")}


def test_without_users_whoever_deploys_is_one(declared: Declare) -> None:
    assert granted_to(declared({}), "deployer") == granted_to(declared(USERS), "ada")
    assert granted_to(declared(USERS), "deployer") == set()


def test_principals_are_what_they_are_said_to_be(declared: Declare) -> None:
    found = assignments(declared(USERS))
    kinds = {name.partition(".")[0]: each.inputs["principalType"] for name, each in found.items()}

    assert {
        "head": "ServicePrincipal",
        "nodes-gpucluster": "ServicePrincipal",
        f"user-{PERSON}": "User",
        f"user-{TEAM}": "Group",
    } == kinds


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_table_tells_of_every_assignment_and_why(declared: Declare, stack: str) -> None:
    found = declared(stack)
    rows = found[-1].outputs["access"]

    assert sorted(each.inputs["description"] for each in assignments(found).values()) == sorted(
        row["why"] for row in rows
    )
    assert all(row["why"].strip() and not row["why"].endswith(".") for row in rows)


def test_assignments_are_named_after_scope_role_and_principal(declared: Declare) -> None:
    """Azure refuses to give an assignment to another principal: an identity made anew needs one of a new name."""
    found = assignments(declared(USERS))

    assert len(found) == len({each.inputs["roleAssignmentName"] for each in found.values()})
    for each in found.values():
        role = each.inputs["roleDefinitionId"].rpartition("/")[2]
        name = guid(each.inputs["scope"], role, each.inputs["principalId"])
        assert name == each.inputs["roleAssignmentName"]
    assert guid("/scope", "role", "one") != guid("/scope", "role", "two")
    assert guid("/Scope", "role", "one") == guid("/scope", "role", "one")


def test_custom_roles_name_single_actions_and_stay_in_the_group(declared: Declare) -> None:
    found = declared({})
    (group,) = (each.id for each in found if each.type == "azure-native:resources:ResourceGroup")
    roles = [each for each in found if each.type == "azure-native:authorization:RoleDefinition"]

    assert {"blob-tags", "key-maker", "scale-set-operator", "node-operator", "subnet-joiner"} == {
        role.name for role in roles
    }
    for role in roles:
        (permission,) = role.inputs["permissions"]
        assert not any("*" in action for action in permission["actions"] + permission["dataActions"])
        assert [group] == role.inputs["assignableScopes"]
        assert role.inputs["roleDefinitionId"] in role.inputs["roleName"]


def test_a_custom_role_is_there_before_it_is_given(declared: Declare) -> None:
    found = declared({})
    roles = {
        each.inputs["roleDefinitionId"]: each.urn
        for each in found
        if each.type == "azure-native:authorization:RoleDefinition"
    }
    for each in assignments(found).values():
        role = each.inputs["roleDefinitionId"].rpartition("/")[2]
        assert role not in roles or roles[role] in each.dependencies
