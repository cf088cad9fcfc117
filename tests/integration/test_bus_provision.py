"""Provisioning on a real nats-server: what is created, what is refused, what is changed."""

import pytest
from nats.aio.client import Client

from localforge.bus.provision import Change, durables, provision
from localforge.contracts import subjects
from localforge.errors import ConfigError
from tests.support_nats import BACKENDS, ProvisionedServer


@pytest.fixture(name="admin")
async def _admin(provisioned_server: ProvisionedServer) -> Client:
    return await provisioned_server.connect("admin")


def _actions(changes: list[Change]) -> set[str]:
    return {change.action for change in changes}


async def test_provisioning_again_changes_nothing(admin: Client):
    changes = await provision(admin, BACKENDS)

    assert _actions(changes) == {"unchanged"}
    assert {c.name for c in changes} == {
        *(stream.name for stream in subjects.STREAMS),
        *(durable.name for durable in durables(BACKENDS)),
        subjects.CHECKPOINT_BUCKET,
    }


async def test_a_new_backend_gets_its_consumer(admin: Client):
    changes = await provision(admin, [*BACKENDS, ("cloud", "new")])

    created = [c for c in changes if c.action == "created"]
    assert [(c.kind, c.name) for c in created] == [("consumer", "executor-cloud-new")]
    info = await admin.jetstream().consumer_info("LF_REQUESTS", "executor-cloud-new")
    assert info.config.filter_subject == "lf.work.exec.cloud.new"


async def test_a_stream_that_differs_is_refused_by_the_name_of_the_setting(admin: Client):
    js = admin.jetstream()
    config = (await js.stream_info("LF_RESULTS")).config
    await js.update_stream(config, max_age=3600)

    with pytest.raises(ConfigError) as caught:
        await provision(admin, BACKENDS)

    assert "stream LF_RESULTS: max_age is 3600, wanted 604800" in caught.value.message
    assert "localforge provision --update" in caught.value.message
    assert (await js.stream_info("LF_RESULTS")).config.max_age == 3600


async def test_a_consumer_that_differs_is_refused_by_the_name_of_the_setting(admin: Client):
    js = admin.jetstream()
    config = (await js.consumer_info("LF_REQUESTS", "router-work")).config
    config.max_ack_pending = 7
    await js.add_consumer("LF_REQUESTS", config)

    with pytest.raises(ConfigError, match=r"consumer router-work: max_ack_pending is 7, wanted"):
        await provision(admin, BACKENDS)


async def test_an_update_changes_what_differs_and_nothing_else(admin: Client):
    js = admin.jetstream()
    stream = (await js.stream_info("LF_RESULTS")).config
    await js.update_stream(stream, max_age=3600)
    consumer = (await js.consumer_info("LF_REQUESTS", "router-work")).config
    consumer.max_ack_pending = 7
    await js.add_consumer("LF_REQUESTS", consumer)

    changes = await provision(admin, BACKENDS, update=True)

    updated = {c.name: c.differences for c in changes if c.action == "updated"}
    assert set(updated) == {"LF_RESULTS", "router-work"}
    assert updated["LF_RESULTS"] == {"max_age": (3600, 604800)}
    assert _actions(await provision(admin, BACKENDS)) == {"unchanged"}


async def test_what_is_on_the_server_is_what_the_program_says(admin: Client):
    """The settings that the promises rest on, asked of the server itself."""
    js = admin.jetstream()
    config = {s.name: (await js.stream_info(s.name)).config for s in subjects.STREAMS}

    assert config["LF_REQUESTS"].retention == "workqueue"
    assert config["LF_RESULTS"].max_msgs_per_subject == 1
    assert config["LF_RESULTS"].discard_new_per_subject
    assert config["LF_FEEDBACK"].deny_delete
    assert config["LF_FEEDBACK"].deny_purge
    assert config["LF_EVALUATE"].storage == "memory"
    for durable in durables(BACKENDS):
        consumer = (await js.consumer_info(durable.stream, durable.name)).config
        assert consumer.ack_policy == ("explicit" if durable.acked else "none")
        if durable.acked:
            assert consumer.max_deliver == durable.max_deliver > len(durable.backoff_s)
