"""Client for a pushed model, served by this project's server or by TF Serving itself.

python -m serving.client --history 50,181 -k 10 --titles

with Client("http://127.0.0.1:8501") as client:
    for recommendation in client.recommend([["50", "181"]], k=10)[0]:
        ...
    client.upsert_items({"9001": Upsert(title="Brand new", features={"genre": ("War",)})})
    client.add_events({"u-17": [Event(time=1795744000, item_id="50")]})
"""

from contract.catalogue_changes import Upsert
from contract.catalogue_messages import CatalogueChanged, CatalogueStatus
from contract.histories import Event, Profile
from contract.history_messages import EventsAdded
from serving.client.categories import UnknownCategoryWarning
from serving.client.client import AsyncClient, Client, Recommendation
from serving.transports import ClientError

__all__ = [
    "AsyncClient",
    "CatalogueChanged",
    "CatalogueStatus",
    "Client",
    "ClientError",
    "Event",
    "EventsAdded",
    "Profile",
    "Recommendation",
    "UnknownCategoryWarning",
    "Upsert",
]
