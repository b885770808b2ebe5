"""Decode images in processes that can be killed and that reach neither files nor network.

    embedder -> pool (gateway) -> fork_server (one process) -> image_worker (forked, confined, one image at a time)

The gateway never reads an image's header. A crash, a memory bomb or an endless decoder costs the one request.
"""
