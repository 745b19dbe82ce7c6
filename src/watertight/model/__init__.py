"""What was declared: a system of services, resources and the channels between them.

Pure: no I/O beyond reading the text it is given, no clock, no randomness.
"""
