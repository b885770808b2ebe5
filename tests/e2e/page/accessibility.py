"""axe-core, which finds what keeps people from using a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def assert_accessible(page: Page, where: str, rules: list[str] | None = None) -> None:
    """Assert that axe finds nothing.

    Args:
        page: the page as it is shown now.
        where: the name of what is shown, for the message.
        rules: the names of the rules to check; all of them by default.
    """
    page.wait_for_timeout(300)  # A colour in transition has another contrast than its end.
    violations = Axe().run(page, options={"runOnly": rules} if rules else None).response["violations"]
    found = [f"{where}: {one['id']}: {[node['html'] for node in one['nodes']]}" for one in violations]
    assert not found, found
