"""A real browser at an OpenID provider and back: Chromium, as a device with its certificate.

    oidc_page.py URL CERTIFICATE KEY PROVIDER

Logs `tanaka` in at the provider, out here, and out there. Ends with an error where anything is not as it must be.
"""

import sys

from playwright.sync_api import expect, sync_playwright

# A slow machine is no reason to fail.
PATIENCE_MS = 60_000


def main(url, certificate, key, provider):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(
            locale="ja-JP",
            ignore_https_errors=True,
            client_certificates=[{"origin": url, "certPath": certificate, "keyPath": key}],
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page = context.new_page()

        def at_provider():
            expect(page.get_by_role("heading", name="login")).to_be_visible()
            assert page.url.startswith(provider), page.url

        def log_in(target):
            at_provider()
            page.get_by_label("Login").fill("tanaka")
            page.get_by_label("Password").fill("akanat")
            page.get_by_role("button", name="Go").click()
            page.wait_for_url(f"{url}{target}")
            assert "ok" in page.content(), page.content()

        def cookies():
            return {cookie["name"]: cookie for cookie in context.cookies(url)}

        # A page that is for users of the provider leads there and back.
        page.goto(f"{url}/open/after?x=1")
        log_in("/open/after?x=1")
        session = cookies()["__Host-sekisho"]
        assert session["httpOnly"] and session["secure"] and session["sameSite"] == "Lax", session
        page.goto(f"{url}/open/other")
        assert page.url == f"{url}/open/other", page.url
        print("logged in")

        # Out, here and there.
        page.goto(f"{url}/.sekisho/login")
        expect(page.get_by_text("tanaka")).to_be_visible()
        page.get_by_role("button", name="ログアウト").click()
        expect(page.get_by_role("heading", name="log out?")).to_be_visible()
        assert page.url.startswith(provider), page.url
        assert "__Host-sekisho" not in cookies(), cookies()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_role("heading")).to_have_text("ログアウトしました")
        assert page.url.startswith(f"{url}/.sekisho/oidc/idp/logged-out"), page.url
        print("logged out")

        # The provider has forgotten the user as well, who thinks better of it.
        page.goto(f"{url}/open/again")
        at_provider()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("alert")).to_contain_text("ログインが完了しませんでした")
        assert page.locator("html").get_attribute("lang") == "ja"
        print(page.locator("body").aria_snapshot())
        page.get_by_role("link").click()
        log_in("/open/again")
        print("logged in again")

        # Out at the provider, which tells the gateway behind the browser's back.
        page.goto(f"{provider}/session/end")
        page.get_by_role("button", name="Yes").click()
        page.wait_for_load_state()
        deadline = 60
        while page.goto(f"{url}/open/last") and page.url.startswith(url) and deadline:
            page.wait_for_timeout(1_000)
            deadline -= 1
        at_provider()
        print("logged out behind the browser's back")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
