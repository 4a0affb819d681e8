"""Databases as earlier code left them."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from cloud.fleet.session_chain import Chain
from cloud.fleet.session_records import chain_of
from cloud.store import open_database
from cloud.store.database import MIGRATIONS
from cloud.store.models import Vehicle


def assert_vehicles_of_before_have_no_session_tokens(url: str) -> None:
    """Enrol a vehicle in a new database as code did that knew no session tokens, and bring it up to date."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        connection.execute(
            text(
                "INSERT INTO vehicles (name, enrolled, daemon_version, hardware_ids, instance_id, fleet)"
                " VALUES ('before', '2026-01-02 03:04:05+00:00', '1.0', '[]', 'one', 'vans')"
            )
        )
    engine.dispose()
    store = open_database(url)
    try:
        with store.reading() as session:
            vehicle = session.get_one(Vehicle, "before")
            assert (vehicle.fleet, vehicle.last_peer, vehicle.identity_accepted) == ("vans", "", None)
            assert chain_of(vehicle) == Chain()
    finally:
        store.close()
