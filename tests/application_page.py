"""A real browser at an old application behind the gateway: Chromium, as two devices with their certificates.

    application_page.py URL CERTIFICATE KEY CERTIFICATE KEY

The first device's user mistypes the password, logs in, goes about, logs out and in again. The second device comes with a copy
of the first one's cookies. Ends with an error where anything is not as it must be.
"""

import sys

from playwright.sync_api import expect, sync_playwright

# A slow machine is no reason to fail.
PATIENCE_MS = 60_000


def main(url, *files):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)

        def device(certificate, key):
            context = browser.new_context(
                ignore_https_errors=True,
                client_certificates=[{"origin": url, "certPath": certificate, "keyPath": key}],
            )
            context.set_default_timeout(PATIENCE_MS)
            return context, context.new_page()

        def log_in(page, password):
            page.locator("[name=username]").fill("tanaka")
            page.locator("[name=password]").fill(password)
            page.get_by_role("button", name="Log in").click()

        ours, page = device(*files[:2])
        page.goto(f"{url}/ehr/home")
        page.wait_for_url(f"{url}/ehr/login*")
        log_in(page, "not the password")
        expect(page.get_by_text("No.")).to_be_visible()
        log_in(page, "right horse")
        page.wait_for_url(f"{url}/ehr/home")
        expect(page.get_by_text("Welcome, tanaka")).to_be_visible()
        page.set_content(f"<form method=post action={url}/ehr/logout><button>Log out</button></form>")
        page.get_by_role("button").click()
        page.wait_for_url(f"{url}/ehr/login")
        log_in(page, "right horse")
        page.wait_for_url(f"{url}/ehr/home")

        theirs, other = device(*files[2:])
        theirs.add_cookies(ours.cookies())
        answer = other.goto(f"{url}/ehr/home")
        assert answer.status == 403 and "session-stolen" in answer.text(), answer.text()
        # The owner is asked for the password again.
        page.goto(f"{url}/ehr/home")
        page.wait_for_url(f"{url}/ehr/login*")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
