"""The routes of budgets and usage."""

from __future__ import annotations

from typing import Final

from ashore.api.http.admin import budgets
from ashore.api.http.routes import Route

BUDGET_ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/budgets", guard="admin", action="budget:read", asks_itself=True,
        handler=budgets.list_budgets,
        tag="Budgets", summary="List budgets", response=budgets.BudgetList,
    ),
    Route(
        method="PUT", path="/admin/v1/budgets", guard="admin", action="budget:write", asks_itself=True,
        handler=budgets.put_budget,
        tag="Budgets", summary="Set a budget, or change its cap", request=budgets.BudgetIn, response=budgets.BudgetOut,
    ),
    Route(
        method="GET", path="/admin/v1/budgets/{budget}", guard="admin", action="budget:read", asks_itself=True,
        handler=budgets.show_budget, tag="Budgets", summary="Show a budget and what is left of it",
        response=budgets.BudgetShow,
    ),
    Route(
        method="DELETE", path="/admin/v1/budgets/{budget}", guard="admin", action="budget:write", asks_itself=True,
        handler=budgets.remove_budget, tag="Budgets", summary="Remove a budget", response=budgets.BudgetRemoved,
    ),
    Route(
        method="GET", path="/admin/v1/usage", guard="admin", action="usage:read", asks_itself=True,
        handler=budgets.usage,
        tag="Budgets", summary="What was used, by tenant, user, model and day, with its cost; CSV where `format=csv`",
        response=budgets.UsageList,
    ),
)  # fmt: skip
