"""A real browser at the login page, by keyboard alone: Chromium, as a device with its certificate.

    login_page.py URL CERTIFICATE KEY FIRST NEW FOLDER

Logs `tanaka` in with the password FIRST, gives NEW, and logs out. What assistive technology is told goes to standard output,
pictures into FOLDER. Ends with an error where anything is not as it must be.
"""

import sys

from playwright.sync_api import expect, sync_playwright

# A slow machine is no reason to fail.
PATIENCE_MS = 60_000


def main(url, certificate, key, first, new, folder):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(
            locale="ja-JP",
            java_script_enabled=False,
            ignore_https_errors=True,
            client_certificates=[{"origin": url, "certPath": certificate, "keyPath": key}],
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page = context.new_page()
        complaints = []

        def hear(message):
            # What is refused is said with a status, which the console repeats.
            if message.type == "error" and "responded with a status of 4" not in message.text:
                complaints.append(message.text)

        page.on("console", hear)

        def look(name):
            page.screenshot(path=f"{folder}/{name}.png")
            print(f"== {name}\n{page.locator('body').aria_snapshot()}")

        def type_on(*texts):
            for index, text in enumerate(texts):
                if index:
                    page.keyboard.press("Tab")
                page.keyboard.type(text)
            page.keyboard.press("Enter")

        page.goto(f"{url}/.sekisho/login?return=/open/after")
        assert page.locator("html").get_attribute("lang") == "ja"
        expect(page.get_by_label("利用者ID")).to_be_focused()
        look("login")
        type_on("tanaka", "not the password")
        expect(page.get_by_role("alert")).to_contain_text("正しくありません")
        expect(page.get_by_label("利用者ID")).to_have_value("tanaka")
        expect(page.get_by_label("パスワード")).to_be_focused()
        look("failed")
        type_on(first)
        field = page.get_by_label("新しいパスワード", exact=True)
        expect(field).to_be_focused()
        expect(field).to_have_accessible_description("13文字以上にしてください。利用者IDや推測されやすい語、以前のパスワードは使えません。")
        look("new-password")
        type_on("password", "password")
        expect(page.get_by_role("alert")).to_contain_text("13文字以上")
        look("weak")
        type_on(new, new)
        page.wait_for_url(f"{url}/open/after")
        assert "ok" in page.content(), page.content()
        cookies = {cookie["name"]: cookie for cookie in context.cookies()}
        session = cookies["__Host-sekisho"]
        assert session["httpOnly"] and session["secure"] and session["sameSite"] == "Strict", session
        assert "__Host-sekisho-login" not in cookies, cookies
        page.goto(f"{url}/.sekisho/login")
        look("signed-in")
        page.get_by_role("button", name="ログアウト").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading")).to_have_text("ログアウトしました")
        assert not context.cookies(), context.cookies()
        assert not complaints, complaints
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
