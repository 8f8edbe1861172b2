"""A model with several versions whose release state tests change."""

import asyncio

from tensorflow_serving.apis import model_pb2

from contract import release_file
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from tests.unit.serving.test_model_manager import _Clock, _config, _Loaded, _push, _spec


class World:
    """A base path with versions, a manager of it, and what it serves."""

    def __init__(self, base, versions=(5, 7, 9), load=_Loaded):
        self.base = base
        self.metrics = Metrics()
        self.clock = _Clock()
        self.manager = ModelManager(
            load, self.metrics, settle_seconds=0.0, retry_seconds=60.0, clock=self.clock
        )
        for version in versions:
            _push(base, version)

    def change(self, make, *args, **options):
        versions = [int(p.name) for p in self.base.iterdir() if p.name.isdigit()]
        release_file.change(self.base, lambda s: make(s, versions, *args, by="x", **options))

    async def starts(self, config=None):
        await self.manager.configure(config or _config(m=self.base))
        return self.serving()

    async def polls(self):
        await self.manager.poll()
        return self.serving()

    def serving(self):
        return self.manager.get(_spec()).version

    def labelled(self, label):
        return self.manager.get(model_pb2.ModelSpec(name="m", version_label=label)).version

    def problem(self):
        """What the status says beside the version that serves."""
        spec = _spec()
        spec.version.value = self.serving()
        return self.manager.status(spec).model_version_status[0].status.error_message

    def available(self):
        return sorted(
            s.version
            for s in self.manager.status(_spec()).model_version_status
            if s.state == s.AVAILABLE
        )

    def metric(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, {"model": "m", **labels})


def scenario(world, steps):
    """Runs the coroutine function ``steps`` and closes the world."""

    async def run():
        await steps()
        await world.manager.close()

    asyncio.run(run())
