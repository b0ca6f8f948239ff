"""The policy at one target, as it stands in a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Action
from agent.policy import Hold, Policy, decide, held
from agent.windows import Window
from api.store import freezes


@dataclass(frozen=True)
class Judge:
    """Do approvals suffice there, and when may it happen?"""

    policy: Policy
    target: str
    environment: str
    at: datetime
    freezes: Sequence[Window] = ()

    def enough(self, action: Action) -> bool:
        """Do the approvals of this action suffice?"""
        decision = decide(
            action, action.approvals, self.environment, now=self.at, policy=self.policy
        )
        return decision.allowed

    def hold(self, action: Action) -> Hold | None:
        """What it has to wait for, once approved."""
        return held(
            action, self.target, self.environment, self.at,
            policy=self.policy, freezes=self.freezes,
        )  # fmt: skip


async def judge_at(
    session: AsyncSession, policy: Policy, target: str, environment: str, at: datetime
) -> Judge:
    """With the freezes people declared there."""
    return Judge(policy, target, environment, at, await freezes.about(session, target, at))
