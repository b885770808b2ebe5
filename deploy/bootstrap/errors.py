"""The one error of the bootstrap. Kept to syntax that older Pythons parse, like all that runs before one is chosen."""


class BootstrapError(Exception):
    """Something the person must see to. The message is written for them."""
