"""The pages as data: routes and scopes, without loading what renders them."""

from dataclasses import dataclass
from typing import Literal

from gpulaunch.operations import Scope


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page, or a part of one."""

    name: str
    """The function's name."""
    route: str
    method: Literal["GET", "POST"] = "GET"
    """A POST needs the CSRF token of its session's forms."""
    scope: Scope = Scope.READ
    """Open to everyone, to any signed-in visitor, or to admins."""
    polled: bool = False
    """Whether htmx gets it again and again, without anyone using it."""
    changes: bool = True
    """Whether a POST changes anything; else it needs no CSRF token, and only has a body."""


PAGES = (
    Page(name="web_home", route="/", scope=Scope.OPEN),
    Page(name="web_signin", route="signin", scope=Scope.OPEN),
    Page(name="web_signin_post", route="signin", method="POST", scope=Scope.OPEN),
    Page(name="web_signout", route="signout", method="POST"),
    Page(name="web_launch", route="launch"),
    Page(name="web_launch_plan", route="launch/plan"),
    Page(name="web_launch_plan_post", route="launch/plan", method="POST", changes=False),
    Page(name="web_launch_post", route="launch", method="POST", scope=Scope.ADMIN),
    Page(name="web_deploy", route="deploy"),
    Page(name="web_deploy_plan", route="deploy/plan"),
    Page(name="web_deploy_plan_post", route="deploy/plan", method="POST", changes=False),
    Page(name="web_deploy_post", route="deploy", method="POST", scope=Scope.ADMIN),
    Page(name="web_instances", route="instances", polled=True),
    Page(name="web_instance", route="instances/{instanceId}"),
    Page(name="web_instance_live", route="instances/{instanceId}/live", polled=True),
    Page(name="web_instance_terminate", route="instances/{instanceId}/terminate", scope=Scope.ADMIN),
    Page(
        name="web_instance_terminate_post", route="instances/{instanceId}/terminate", method="POST", scope=Scope.ADMIN
    ),
    Page(name="web_instance_key", route="instances/{instanceId}/key", scope=Scope.ADMIN),
    Page(name="web_endpoints", route="endpoints", polled=True),
    Page(name="web_endpoint", route="endpoints/{endpointName}"),
    Page(name="web_endpoint_live", route="endpoints/{endpointName}/live", polled=True),
    Page(name="web_endpoint_change", route="endpoints/{endpointName}/changes/{change}", scope=Scope.ADMIN),
    Page(
        name="web_endpoint_change_post",
        route="endpoints/{endpointName}/changes/{change}",
        method="POST",
        scope=Scope.ADMIN,
    ),
    Page(name="web_endpoint_keys", route="endpoints/{endpointName}/keys"),
    Page(name="web_endpoint_keys_post", route="endpoints/{endpointName}/keys", method="POST", scope=Scope.ADMIN),
    Page(name="web_endpoint_revoke", route="endpoints/{endpointName}/keys/{keyId}/revoke", scope=Scope.ADMIN),
    Page(
        name="web_endpoint_revoke_post",
        route="endpoints/{endpointName}/keys/{keyId}/revoke",
        method="POST",
        scope=Scope.ADMIN,
    ),
    Page(name="web_costs", route="costs"),
    Page(name="web_costs_csv", route="costs.csv"),
    Page(name="web_settings", route="settings"),
    Page(name="web_docs", route="api/docs", scope=Scope.OPEN),
    Page(name="web_static", route="static/{file}", scope=Scope.OPEN),
    Page(name="web_missing", route="{*path}", scope=Scope.OPEN),
)
