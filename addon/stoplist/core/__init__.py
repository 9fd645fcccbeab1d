"""The judgement: values in, values out. No I/O, no mitmproxy; the time is an argument."""
