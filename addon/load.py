"""Loads Stoplist into mitmproxy: mitmdump -s addon/load.py --set stoplist_policy=FILE"""

from stoplist.proxy.mitm.addon import Stoplist

addons = [Stoplist()]
