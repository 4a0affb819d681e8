"""What the cloud keeps: facts in a database, bytes in an object store."""

from cloud.store.database import Store, StoreError, open_database
from cloud.store.objects import FolderObjects, MissingObjectError, ObjectStore

__all__ = ["FolderObjects", "MissingObjectError", "ObjectStore", "Store", "StoreError", "open_database"]
