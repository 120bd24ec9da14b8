"""Names and routes of a node, as the applier brings them about beside the tunnel."""

from wgpy.mesh.applier import Extras, NoExtras
from wgpy.mesh.member import Member


def make_extras(member: Member) -> Extras:
    """What this node has of names and routes."""
    del member
    return NoExtras()
