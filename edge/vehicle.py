"""All parts of a vehicle's daemon, as its configuration asks for them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.config import EdgeConfig
from edge.frame_loop import FrameObserver
from edge.machine.disk_budget import FILE_NAME, DiskBudget
from edge.parts import BackgroundPart, FactoryModel, Links, ModelStore, Parts
from edge.updates.hardware import hardware_ids

if TYPE_CHECKING:
    import grpc

    from edge.drift.part import DriftWatch
    from edge.fleet.sampling import Sampling
    from edge.updates.models import SlotModels
    from edge.updates.part import Updates
    from edge.vehicle_state.part import VehicleWatch

_WAITING = 8  # pictures that wait for the disk: at 1280x720 some 22 MB


class VehicleParts:
    """The factory of the daemon that runs on vehicles; a `PartsFactory`."""

    def __init__(self) -> None:
        """Make ready for one run."""
        self._models: SlotModels | None = None
        self._disk = DiskBudget()
        self._sampling: Sampling | None = None

    def open_models(self, config: EdgeConfig) -> ModelStore:
        """Open the slots, or without updates the factory's model alone.

        Raises:
            TrafficVisionError: there is no model that can be used.
        """
        self._disk = DiskBudget(config.disk.bytes_per_day, config.state_folder / FILE_NAME)
        if config.updates is None:
            return FactoryModel(config.model)
        from edge.updates.opening import open_slot_models

        self._models = open_slot_models(config, self._disk.lane("slots"))
        return self._models

    def build_parts(self, config: EdgeConfig, links: Links) -> Parts:
        """Build what the configuration asks for. Without [cloud] and [sampler] there is no fleet part.

        Raises:
            TrafficVisionError: a reference, certificate or folder cannot be used.
        """
        parts = self._driving(config, links)
        if config.http is None:
            return parts
        from edge.serve.http.part import HttpPart

        http = HttpPart(config.http, config.vehicle, tuple(camera.name for camera in config.cameras), links)
        return replace(
            parts, observers=(*parts.observers, *http.observers), background=(*parts.background, http)
        )

    def _driving(self, config: EdgeConfig, links: Links) -> Parts:
        # Each part brings libraries of its own, and a vehicle may do without.
        from edge.vehicle_state.part import VehicleWatch

        names = [camera.name for camera in config.cameras]
        vehicle = VehicleWatch(config.vehicle_state, names, links.reports)
        observers: list[FrameObserver] = [vehicle]
        background: list[BackgroundPart] = [
            self._disk,
            vehicle,
        ]  # the disk first: it ends after all that write
        drift = _drift(config, links, vehicle, self._disk)
        if drift is not None:
            observers.append(drift)
            background.append(drift)
        if config.sampler is None and config.cloud is None:
            updates = self._updates(config, None, links, vehicle, drift, observers)
            if updates is not None:
                background.append(updates)
            return Parts(tuple(observers), tuple(background), updates, self._take_over)

        from edge.background_writer import BackgroundWriter
        from edge.fleet.drift_events import DriftEvents
        from edge.fleet.part import Fleet, open_cloud_channel, open_spools

        spools, writer = open_spools(config, self._disk), BackgroundWriter(_WAITING, "sample-writer")
        events = DriftEvents(spools.events, writer)
        if drift is not None:
            drift.listen(events.verdict_changed)
        sampling = None
        if config.sampler is not None:
            from edge.fleet.sampling import Sampling

            cameras = {camera.name: camera for camera in config.cameras}
            sampling = Sampling(
                config.sampler, cameras, drift, spools, writer, links.clock, links.run_id, events, vehicle
            )
            observers.append(sampling)
            self._sampling = sampling
        # Not the run's id, which messages on the vehicle's bus and drives carry: the cloud alone knows it.
        instance_id = uuid.uuid4().hex
        channel = None if config.cloud is None else open_cloud_channel(config.cloud, instance_id)
        updates = self._updates(config, channel, links, vehicle, drift, observers)
        fleet = Fleet(
            config,
            links,
            spools,
            writer,
            sampling=sampling,
            channel=channel,
            hardware_ids=hardware_ids(config.model.providers),
            instance_id=instance_id,
            disk=self._disk,
            nudge=updates.nudge if updates else lambda counter: None,
            assign=updates.assign if updates else lambda assignment: None,
        )
        background.append(fleet)
        if config.cloud is not None and channel is not None:
            from edge.fleet.identity_keeper import IdentityKeeper

            lane = self._disk.lane("identity")
            background.append(
                IdentityKeeper(config.cloud, channel, fleet.is_connected, lane, instance_id=instance_id)
            )
        if updates is not None:
            background.append(updates)
            if fleet.control is not None:
                updates.listen(fleet.control.model_changed)
                updates.compare_clocks(fleet.control.cloud_ahead)
        return Parts(tuple(observers), tuple(background), updates, self._take_over)

    def _updates(
        self,
        config: EdgeConfig,
        channel: grpc.Channel | None,
        links: Links,
        vehicle: VehicleWatch,
        drift: DriftWatch | None,
        observers: list[FrameObserver],
    ) -> Updates | None:
        if config.updates is None or self._models is None:
            return None
        from edge.inference import detector_options
        from edge.updates.frame_records import FrameRecords
        from edge.updates.inbox import Inbox
        from edge.updates.part import HOLD_S, Updates
        from edge.updates.shadow import Shadow

        records = FrameRecords(vehicle.parked, drift.context if drift else lambda camera: "")
        shadow = Shadow(
            detector_options(config),
            vehicle.parked,
            moving=vehicle.moves,
            keeper=None if drift is None else drift.in_shadow,
            memory_bytes=config.updates.shadow_memory_bytes,
            start_s=config.model.check_timeout_s,
        )
        observers += [records, shadow]
        return Updates(
            self._models,
            config.updates,
            channel if config.updates.root is not None else None,
            links,
            records=records,
            shadow=shadow,
            inbox=Inbox(config.state_folder),
            hold_s=HOLD_S,
        )

    def _take_over(self, config: EdgeConfig) -> None:
        self._disk.limit_to(config.disk.bytes_per_day, {"samples": config.spool.bytes_per_day})
        if self._sampling is not None and config.sampler is not None:
            self._sampling.take_over(config.sampler)


def _drift(config: EdgeConfig, links: Links, vehicle: VehicleWatch, disk: DiskBudget) -> DriftWatch | None:
    if config.drift is None:
        return None
    from edge.drift.learn_child import ChildLearner
    from edge.drift.part import DriftWatch

    return DriftWatch(
        config.drift,
        [camera.name for camera in config.cameras],
        config.model.factory,
        config.state_folder / "drift",
        links.clock,
        links.publish_drift,
        parked=vehicle.parked,
        moving=vehicle.moves,
        disk=disk.lane("drift"),
        rows=disk.lane("drift-rows"),
        learner=ChildLearner,
    )
