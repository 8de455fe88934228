"""Fake platforms over real HTTP, written from the platforms' own pages, with faults on request.

They share no code with the rest of the project, so a mistake there is not repeated here.

    async with simulators.HubSpot(portal.contacts(1000, seed=1)).serve() as url: …
    python -m simulators --platform all --contacts 1000 --seed 1

Each file of a platform names the pages it follows. `admin.py` lists what a test may ask of it.
"""

from simulators.declared import declared
from simulators.ga4 import GA4
from simulators.hubspot import HubSpot
from simulators.mailchimp import Mailchimp
from simulators.salesforce import Salesforce
from simulators.segment import Segment
from simulators.server import Platform

__all__ = ["GA4", "HubSpot", "Mailchimp", "Platform", "Salesforce", "Segment", "declared"]
