"""Topics come with the configuration that names a platform: few, and only those that it needs."""

from schemas import topics
from schemas.definitions import Connection, Webhook
from syncline.commands.apply import carried, topics_needed
from syncline.config import Configuration


def connection(platform: str, *, webhook: bool = False, secrets: bool = True) -> Connection:
    return Connection(
        connection=platform,
        platform=platform,
        account="1",
        secrets={"api_key": "env:KEY"} if secrets else {},
        webhook=Webhook(secret="env:HOOK") if webhook else None,
    )


def test_what_is_read_or_written_has_four_topics_and_what_is_heard_two() -> None:
    wanted = Configuration(
        connections={
            "klaviyo": connection("klaviyo", webhook=True),
            "segment": connection("segment", webhook=True, secrets=False),
            "mandrill": connection("mandrill", webhook=True),  # has no connector
            "hubspot": connection("hubspot"),
        }
    )
    assert carried(wanted) == {"hubspot", "klaviyo"}
    names = {topic.name for topic in topics_needed(wanted)}
    assert names == {
        *(f"{kind}.{name}" for name in ("hubspot", "klaviyo")
          for kind in ("intake", "events", "commands", "outcomes")),
        *(f"{kind}.{name}" for name in ("segment", "mandrill") for kind in ("intake", "events")),
    }  # fmt: skip


def test_the_platforms_of_a_cluster_are_told_by_its_topics() -> None:
    assert topics.platforms_in([]) == topics.PLATFORMS
    there = ["commands.klaviyo", "commands.hubspot", "events.segment", "commands.braze", "journal"]
    assert topics.platforms_in(there) == (*topics.PLATFORMS, "braze", "klaviyo")


def test_all_topics_of_more_platforms_are_those_of_every_cluster_and_theirs() -> None:
    more = topics.topics_of((*topics.PLATFORMS, "klaviyo"))
    assert set(more) - set(topics.TOPICS) == set(topics.of_platform("klaviyo"))
    assert len({topic.name for topic in more}) == len(more)
