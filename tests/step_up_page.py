"""A real browser that is asked to prove more: Chromium, as a device with its certificate, without scripts, by keyboard.

    step_up_page.py URL CERTIFICATE KEY PASSWORD MODE SECRET FOLDER

Opens /two, which needs two factors, logs `tanaka` in and comes back there; then opens /fresh, which needs a fresh login, once the
login is too old for it, proves it again and comes back there. MODE and SECRET are oathtool's. What assistive technology is told
goes to standard output, pictures into FOLDER. Ends with an error where anything is not as it must be.
"""

import subprocess
import sys
import time

from playwright.sync_api import expect, sync_playwright

# A slow machine is no reason to fail.
PATIENCE_MS = 60_000


def main(url, certificate, key, password, mode, secret, folder):
    # The code of this step may have shown that the authenticator works.
    used = {int(time.time()) // 30}

    def code():
        """A code that was not used before."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            for ahead in (0, 30):
                now = int(time.time()) + ahead
                command = ["oathtool", mode, "-b", f"--now=@{now}", secret]
                found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
                if now // 30 > max(used):
                    used.add(now // 30)
                    return found
            time.sleep(1)
        raise TimeoutError("no code of a later step")

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

        def look(name):
            page.screenshot(path=f"{folder}/{name}.png")
            print(f"== {name}\n{page.locator('body').aria_snapshot()}")

        def type_on(*texts):
            for index, text in enumerate(texts):
                if index:
                    page.keyboard.press("Tab")
                page.keyboard.type(text)
            page.keyboard.press("Enter")

        def factor():
            expect(page.get_by_label("確認コード")).to_be_focused()
            look("factor")
            type_on(code())

        page.goto(f"{url}/two/1")
        expect(page.get_by_label("利用者ID")).to_be_focused()
        type_on("tanaka", password)
        factor()
        page.wait_for_url(f"{url}/two/1")
        assert "ok" in page.content(), page.content()

        until = time.monotonic() + 90
        while "login" not in page.url:
            assert time.monotonic() < until, page.url
            time.sleep(1)
            page.goto(f"{url}/fresh/1")
        expect(page.get_by_label("パスワード")).to_be_focused()
        assert page.get_by_label("利用者ID").count() == 0
        look("again")
        type_on(password)
        factor()
        # On a machine that pauses for long, the page asks once more; that it was proved, the log says.
        page.wait_for_url(lambda reached: "/fresh/1" in reached)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
