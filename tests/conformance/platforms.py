"""What the suite must know of each platform stands with certification, which uses it as well:
`syncline/certify/places.py`. A platform is added there."""

from syncline.certify.places import DECLARED, PLACES, SEEDED, Place

__all__ = ["DECLARED", "PLACES", "SEEDED", "Place"]
