"""People with Label Studio (https://labelstud.io), over its REST interface."""

from cloud.labeling.label_studio.service import LabelStudioService

__all__ = ["LabelStudioService"]
