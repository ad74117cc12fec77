"""Who may do what: every role assignment and every custom role is declared here, and listed as it is."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import authorization

from infra.names import Place, guid
from infra.roles import Role


@dataclass(frozen=True, kw_only=True)
class Who:
    """
    Somebody who is given roles. name: unique in the stack, part of logical names; principal: object id;
    kind: "User", "Group" or "ServicePrincipal", which every managed identity is; called: what the table says in place
    of the name.
    """

    name: str
    principal: pulumi.Input[str]
    kind: str = "ServicePrincipal"
    called: str = ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a role is given on. name: unique in the stack, part of logical names; id: ARM id."""

    name: str
    id: pulumi.Output[str]


class Access(pulumi.ComponentResource):
    """
    All grants of a workspace.

    assignments: the resources; table(): one row per grant, in the order in which they were given.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        subscription: pulumi.Output[str],
        workspace: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("tensoryard:infra:Access", name, {}, opts)
        self._place = place
        self._subscription = subscription
        self._workspace = workspace
        self._definitions: dict[str, authorization.RoleDefinition] = {}
        self._rows: list[dict[str, str]] = []
        self.assignments: list[pulumi.Resource] = []

    def grant(self, who: Who, role: Role, scope: Scope, why: str) -> None:
        """Give somebody a role on something. why: one line for the table that people review."""
        definition_guid, needed = self._define(role)
        definition = pulumi.Output.concat(
            "/subscriptions/",
            self._subscription,
            "/providers/Microsoft.Authorization/roleDefinitions/",
            definition_guid,
        )
        assignment = authorization.RoleAssignment(
            f"{who.name}.{role.key}.{scope.name}",
            role_assignment_name=pulumi.Output.all(scope.id, definition_guid, who.principal).apply(
                lambda parts: guid(*parts)
            ),
            scope=scope.id,
            role_definition_id=definition,
            principal_id=who.principal,
            # The SDK would fill in "User", and Azure would look for an identity that is not known everywhere yet.
            principal_type=who.kind,
            description=why,
            # All else that Azure fixes is in the name. One of the same name cannot be made before the old one goes.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=needed, replace_on_changes=["principalType"], delete_before_replace=True
            ),
        )
        self.assignments.append(assignment)
        self._rows.append({"identity": who.called or who.name, "role": role.title, "scope": scope.name, "why": why})

    def table(self) -> list[dict[str, str]]:
        """Rows of identity, role, scope and why. Ends the component: no grant may follow."""
        self.register_outputs({"table": self._rows})
        return self._rows

    def _define(self, role: Role) -> tuple[pulumi.Input[str], list[pulumi.Resource]]:
        """The guid of a role, and what must exist before it can be given; a custom role is declared at first use."""
        if role.guid is not None:
            return role.guid, []
        own = self._place.group_id.apply(lambda group: guid(group, role.key))
        if role.key not in self._definitions:
            self._definitions[role.key] = authorization.RoleDefinition(
                role.key,
                role_definition_id=own,
                # Names of custom roles are unique in the whole tenant.
                role_name=pulumi.Output.concat(role.title, " (", self._workspace, ", ", own, ")"),
                role_type="CustomRole",
                description=role.purpose,
                scope=self._place.group_id,
                assignable_scopes=[self._place.group_id],
                permissions=[
                    authorization.PermissionArgs(actions=list(role.actions), data_actions=list(role.data_actions))
                ],
                opts=pulumi.ResourceOptions(parent=self),
            )
        return own, [self._definitions[role.key]]
