"""What each meta plan does to the meta state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.errors import ClusterError, StatusCode
from cluster.partition.node_info import NodeInfo
from cluster.plan.outcomes import Outcome
from cluster.plan.plans import (
    AuthorAction,
    AuthorPlan,
    ContinuousQueryPlan,
    CreateContinuousQueryPlan,
    DeleteStorageGroupsPlan,
    FunctionPlan,
    MetaPlan,
    RegisterNodePlan,
    RegistryAction,
    SetPartitionTablePlan,
    SetStorageGroupPlan,
    SetTtlPlan,
    SetUserPlan,
    SystemModePlan,
    TemplateAction,
    TemplatePlan,
    TriggerPlan,
)
from cluster.raft.types import NodeId
from cluster.schema.meta_state import MetaState, Puts
from cluster.schema.registry import Trigger


def apply_meta_plan(state: MetaState, plan: MetaPlan, index: int) -> tuple[Outcome, Puts]:
    """Apply a plan; by one thread at a time. Deterministic.

    Args:
        state: is changed.
        plan: a meta plan.
        index: its log index; the id of a storage group that it creates.

    Returns:
        The outcome, and what to store (None: to delete). A refused plan changes nothing.

    Raises:
        TypeError: not a plan that changes the meta state.
    """
    change = _CHANGES.get(type(plan))
    if change is None:
        raise TypeError(f"the meta group can't apply a {type(plan).__name__}")
    try:
        value, puts = change(state, plan, index)
    except ClusterError as refusal:
        return Outcome(refusal.status, refusal.message), {}
    return Outcome(StatusCode.SUCCESS, value=value), puts


def _set_storage_group(state: MetaState, plan: SetStorageGroupPlan, index: int) -> tuple[int, Puts]:
    return index, state.set_storage_group(plan.path, plan.ttl, index)


def _set_table(state: MetaState, plan: SetPartitionTablePlan, _: int) -> tuple[bool, Puts]:
    puts = state.set_partition_table(plan.table)
    return bool(puts), puts


def _without_value(
    change: Callable[[MetaState, Any], Puts],
) -> Callable[[MetaState, Any, int], tuple[None, Puts]]:
    return lambda state, plan, _: (None, change(state, plan))


def _register(state: MetaState, plan: RegisterNodePlan) -> Puts:
    return state.register(
        NodeInfo(
            node_id=NodeId(plan.node_id),
            internal_ip=plan.internal_ip,
            meta_port=plan.meta_port,
            data_port=plan.data_port,
            rpc_address=plan.rpc_address,
            rpc_port=plan.rpc_port,
            incarnation=plan.incarnation,
        )
    )


def _change_auth(state: MetaState, plan: AuthorPlan) -> Puts:
    auth = state.auth
    match plan.action:
        case AuthorAction.CREATE_USER:
            return auth.create_user(plan.user, plan.password_hash)
        case AuthorAction.CREATE_ROLE:
            return auth.create_role(plan.role)
        case AuthorAction.SET_PASSWORD:
            return auth.set_password(plan.user, plan.password_hash)
        case AuthorAction.DROP_USER:
            return auth.drop_user(plan.user)
        case AuthorAction.DROP_ROLE:
            return auth.drop_role(plan.role)
        case AuthorAction.GRANT_USER:
            return auth.grant_to_user(plan.user, plan.privileges, plan.paths)
        case AuthorAction.GRANT_ROLE:
            return auth.grant_to_role(plan.role, plan.privileges, plan.paths)
        case AuthorAction.GRANT_ROLE_TO_USER:
            return auth.grant_role(plan.role, plan.user)
        case AuthorAction.REVOKE_USER:
            return auth.revoke_from_user(plan.user, plan.privileges, plan.paths)
        case AuthorAction.REVOKE_ROLE:
            return auth.revoke_from_role(plan.role, plan.privileges, plan.paths)
        case AuthorAction.REVOKE_ROLE_FROM_USER:
            return auth.revoke_role(plan.role, plan.user)


def _change_templates(state: MetaState, plan: TemplatePlan) -> Puts:
    templates = state.templates
    match plan.action:
        case TemplateAction.CREATE:
            return templates.create(plan.name, plan.aligned, plan.series)
        case TemplateAction.DROP:
            return templates.drop(plan.name)
        case TemplateAction.APPEND:
            return templates.append(plan.name, plan.series)
        case TemplateAction.PRUNE:
            return templates.prune(plan.name, plan.path)
        case TemplateAction.SET:
            return templates.set(plan.name, plan.path)
        case TemplateAction.UNSET:
            return templates.unset(plan.name, plan.path)


def _change_functions(state: MetaState, plan: FunctionPlan) -> Puts:
    registry = state.registry
    match plan.action:
        case RegistryAction.CREATE:
            return registry.create_function(plan.name, plan.class_name)
        case RegistryAction.DROP:
            return registry.drop_function(plan.name)
    raise _no_such_action(plan)


def _change_triggers(state: MetaState, plan: TriggerPlan) -> Puts:
    registry = state.registry
    match plan.action:
        case RegistryAction.CREATE:
            return registry.create_trigger(
                Trigger(plan.name, plan.event, plan.path, plan.class_name, plan.attributes)
            )
        case RegistryAction.DROP:
            return registry.drop_trigger(plan.name)
        case RegistryAction.START | RegistryAction.STOP:
            return registry.switch_trigger(plan.name, started=plan.action is RegistryAction.START)
    raise _no_such_action(plan)


def _change_queries(state: MetaState, plan: ContinuousQueryPlan) -> Puts:
    registry = state.registry
    match plan.action:
        case RegistryAction.DROP:
            return registry.drop_query(plan.name)
        case RegistryAction.CLAIM:
            return registry.claim_run(plan.name, plan.due, plan.next_run)
    raise _no_such_action(plan)


def _no_such_action(plan: FunctionPlan | TriggerPlan | ContinuousQueryPlan) -> ClusterError:
    return ClusterError(
        StatusCode.ILLEGAL_PARAMETER, f"{plan.action.name} means nothing in {type(plan).__name__}"
    )


_CHANGES: dict[type, Callable[[MetaState, Any, int], tuple[Any, Puts]]] = {
    SetStorageGroupPlan: _set_storage_group,
    DeleteStorageGroupsPlan: lambda state, plan, _: state.delete_storage_groups(plan.sg_ids),
    SetPartitionTablePlan: _set_table,
    SetTtlPlan: _without_value(lambda state, plan: state.set_ttl(plan.sg_ids, plan.ttl)),
    RegisterNodePlan: _without_value(_register),
    SetUserPlan: _without_value(
        lambda state, plan: state.auth.put_user(plan.name, plan.password_hash)
    ),
    AuthorPlan: _without_value(_change_auth),
    TemplatePlan: _without_value(_change_templates),
    FunctionPlan: _without_value(_change_functions),
    TriggerPlan: _without_value(_change_triggers),
    CreateContinuousQueryPlan: _without_value(
        lambda state, plan: state.registry.create_query(plan.query)
    ),
    ContinuousQueryPlan: _without_value(_change_queries),
    SystemModePlan: _without_value(lambda state, plan: state.set_read_only(plan.read_only)),
}
"""By type of plan: returns the value of its outcome, and what to store; raises what refuses it."""
