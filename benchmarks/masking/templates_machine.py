"""What programs write: JSON, tool arguments, logs, tables, code. In the JSON ones slots are escaped as the string
around them is."""

from __future__ import annotations

from typing import Final

JSON: Final[tuple[str, ...]] = (
    '{"name": "«name_zh_bare»", "idCard": "«cn_id»", "mobile": "«cn_mobile»", "orderId": "«~order»"}',
    '{"msg":"客户«name_zh»\\n身份证：«cn_id»\\n手机：«cn_mobile»\\n","ts":«~time_json»}',
    '{"card_no":"«bank_card»","amount":"«~amount»","trace":"«~uuid»"}',
    '{"company": "«=测试|示例»公司", "uscc": "«cn_uscc»", "tel": "«cn_landline»", "addr": "«address_zh»"}',
    '{"user": {"email": "«email»", "ip": "«ip»", "ssn": "«us_ssn»"}, "version": "«~version»"}',
    '[{"iban":"«iban»"},{"iban":"«iban»"},{"iban":"«~bad_iban»"}]',
    '{"content":"电话\\t«cn_mobile»\\r\\n卡号\\t«bank_card»\\r\\n"}',
    '{"private_key":"«private_key»","project":"demo"}',
    '{"env":{"AWS_ACCESS_KEY_ID":"«secret»","BUILD":"«~digest»"}}',
    '{"plate":"«cn_plate»","driver":"«name_zh_bare»","phone":"«cn_mobile»","km":«=120|88.5»}',
    '{"passport_no":"«cn_passport»","contact":"«phone»","note":"call \\"«phone»\\" first"}',
    '{"hash":"«~digest»","uuid":"«~uuid»","id":«~order_json»,"at":"«~time»"}',
)
ARGUMENTS: Final[tuple[str, ...]] = (
    '{"name":"send_sms","arguments":"{\\"phone\\": \\"«cn_mobile»\\", \\"text\\": \\"订单«~order»已发货\\"}"}',
    '{"name":"query_customer","arguments":"{\\"id_card\\":\\"«cn_id»\\",\\"name\\":\\"«name_zh_bare»\\"}"}',
    '{"type":"tool_use","name":"pay","input":"{\\"to\\":\\"«bank_card»\\",\\"amount\\":\\"«~amount»\\"}"}',
    '{"name":"send_email","arguments":"{\\"to\\":[\\"«email»\\",\\"«email»\\"],\\"body\\":\\"请致电«cn_mobile»\\\\n谢谢\\"}"}',
    '{"name":"wire","arguments":"{\\"iban\\":\\"«iban»\\",\\"ref\\":\\"«~uuid»\\"}"}',
    '{"name":"lookup_ip","arguments":"{\\"ip\\":\\"«ip»\\",\\"since\\":\\"«~time»\\"}"}',
    '{"name":"register","arguments":"{\\"uscc\\":\\"«cn_uscc»\\",\\"plate\\":\\"«cn_plate»\\",\\"tel\\":\\"«cn_landline»\\"}"}',
    '{"name":"form","arguments":"{\\"ssn\\":\\"«us_ssn»\\",\\"phone\\":\\"«phone»\\",\\"address\\":\\"«address_en»\\"}"}',
)
LOGS: Final[tuple[str, ...]] = (
    "«~time» INFO  [http-«=1|8»] login ok user=«email» ip=«ip» trace=«~uuid»",
    "«~time» WARN  sms failed mobile=«cn_mobile» code=«~error» cost=«=12|340»ms",
    '«ip» - - [«~time»] "GET /api/v1/user?mobile=«cn_mobile»&v=«~version» HTTP/1.1" 200 «=512|20480»',
    "«~time» ERROR com.bank.Pay - card=«bank_card» orderNo=«~dated_order» msg=余额不足",
    "«~time» DEBUG idNo:«cn_id»|name:«name_zh_bare»|seq:«~order»",
    "Failed password for root from «ip» port «=52144|40022» ssh2",
    "[«~time»] Authorization: Bearer «secret»",
    "kernel: [«=12345.678901|88.120001»] usb 1-1: new device, build «~version», digest «~digest»",
    "INSERT INTO user(id_card,phone) VALUES('«cn_id»','«cn_mobile»'); -- «~time»",
    "«~time» INFO GC pause 12.5ms heap 1024M->512M, seq=«~order», offset=«~order»",
    "peer=[«ip»] sent «=1500|64» bytes, checksum «~digest»",
    "tax=«cn_uscc»&plate=«cn_plate»&tel=«cn_landline»&sig=«~digest»",
)
TABLES: Final[tuple[str, ...]] = (
    "姓名,身份证,手机\n«name_zh_bare»,«cn_id»,«cn_mobile»\n«name_zh_bare»,«cn_id»,«cn_mobile»",
    "| 客户 | 卡号 | 金额 |\n|---|---|---|\n| «name_zh» | «bank_card» | «~amount» |\n| «name_zh» | «bank_card» | «~amount» |",
    "订单号\t收件人电话\t邮箱\n«~order»\t«cn_mobile»\t«email»\n«~order»\t«cn_mobile»\t«email»",
    "name;phone;ssn\n«name_en_bare»;«phone»;«us_ssn»\n",
    "企业,信用代码,电话\n甲公司,«cn_uscc»,«cn_landline»\n乙公司,«cn_uscc»,«cn_landline»",
    "| host | ip | version |\n| web1 | «ip» | «~version» |\n| web2 | «ip» | «~version» |",
    "sku,price,qty,updated\n«~part»,«~amount»,12,«~time»\n«~part»,«~amount»,3,«~time»",
    "车牌,进场,出场\n«cn_plate»,«~time»,«~time»\n«cn_plate»,«~time»,«~time»",
    "iban,passport no,email\n«iban»,«cn_passport»,«email»",
)
CODE: Final[tuple[str, ...]] = (
    "client = Client(api_key=\"«secret»\", host='«ip»')  # build «~version»",
    "def test():\n    assert check_id('«cn_id»')\n    assert not check_id('«~bad_id»')",
    "export OPENAI_API_KEY=«secret»\nexport BUILD=«~digest»",
    "DATABASES = {'HOST': '«ip»', 'PASSWORD': '«password»'}",
    'const phone = "«cn_mobile»"; // 联系人«name_zh»',
    "x = «~code»\ny = «~code»",
    '# contact: «email»\nversion = "«~version»"\nhash = "«~digest»"',
    "cat > id_rsa <<EOF\n«private_key»\nEOF",
    "SELECT * FROM t WHERE card = '«bank_card»' AND created > '«~time»' LIMIT 100;",
    "«~blob»",
    "postgres://app:«password»@«ip»/orders",
    "curl -H 'Authorization: Bearer «secret»' http://«ip»/v1/models",
    "if order == «~order» and total > «=1000|250»: print('«~error»')",
    "config.yaml:\n  db_password: «password»\n  image: app@«~digest»\n  ip: «ip»",
    "const key = `«private_key»`; // rotate on «~date»",
)
