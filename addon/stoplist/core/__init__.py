"""The judgement: it takes values and returns values. No I/O, no mitmproxy; the time is an argument."""
