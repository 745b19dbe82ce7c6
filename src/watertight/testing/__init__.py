"""What tests of a kind of server need: real servers.

:mod:`.rig` runs one server with its SVIDs, its doors and an attacker's arena over it. It needs what
``watertight-channels[testing]`` installs.
"""
