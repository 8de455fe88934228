"""Checks of certification are tests here: what they assert is told in full."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"syncline.certify.{name}"
        for name in ("bench", "desk", "failing", "hooks", "plain", "reading", "working", "writing")
    )
)
