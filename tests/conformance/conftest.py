"""What a platform cannot show is said where the platform is described, with the reason."""

import pytest

from tests.conformance.platforms import PLACES


@pytest.fixture(autouse=True)
def lacking(request: pytest.FixtureRequest) -> None:
    """Skips a test that the platform's `Place` says it lacks."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    place = PLACES.get(params.get("name", ""))
    test = getattr(request.function, "__name__", "")
    if place is not None and test in place.lacks:
        pytest.skip(place.lacks[test])
