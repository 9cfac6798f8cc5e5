import proxy.rootless  # noqa: F401 -- before any module of this package imports aiohttp
