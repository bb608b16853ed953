"""Templates written after the detectors had been mended on the others: measured once, and then no longer fresh."""

from __future__ import annotations

from typing import Final

FRESH: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("zh", "bank"): (
        "经办人«name_zh»核对：证件«cn_id»有效，扣款卡«bank_card»，预计«~date»划转«~amount»",
        "【反诈提醒】尾号«=0417|5520»向«bank_card»转账«~amount»，可疑IP为«ip»，请速联系«cn_mobile»",
        "保单号«~order»项下被保险人证件号码：«cn_id»；受益人手机：«cn_mobile»；退保金额«~amount»。",
    ),
    ("zh", "hospital"): (
        "护士站：3床家属留的号是«cn_mobile»，另一个是«cn_landline»，体温«=36.8|38.1»℃",
        "出院随访：«name_zh»，«cn_mobile»，住«address_zh»；复诊«~date»，费用合计«~amount»",
    ),
    ("zh", "factory"): (
        "地磅单«~dated_order»：车号«cn_plate»，毛重«=32.5|41.0»吨，承运«cn_uscc»，司机«cn_mobile»",
        "网关«ip»丢包«=3|12»%，固件«~version»，值班«name_zh»«cn_mobile»，故障«~error»",
        "发票抬头税号：«cn_uscc»，物料«~part»数量«=300|1200»，运单«~parcel»",
    ),
    ("zh", "chat"): (
        "帮我把«cn_mobile»和«email»存成联系人，名字写«name_zh_bare»",
        "刚才那个号打错了，不是«~order»，是«cn_mobile»",
        "护照«cn_passport»快过期了，要带身份证«cn_id»去换吗？",
        "汇到«iban»要多久？手续费«~amount»吧",
        "wifi口令：«password»，连上以后打开«ip»",
    ),
    ("en", "chat"): (
        "Her number? «phone». Mail goes to «email», rent is «~amount».",
        "They asked for the last visa card I used: «bank_card», and for my social security number, «us_ssn».",
        "ssh into «ip» with the token «secret» and check build «~version»",
        "Refund order «~order» to «iban», then e-mail «email»; trace «~uuid».",
        "Deliver to «address_en» before «~date»; gate code «=4471|9902».",
        "The hash «~digest» came from «ip», not from «ip».",
    ),
    ("mixed", "chat"): (
        "HR系统里员工«name_zh_bare»的ID card=«cn_id»，mobile=«cn_mobile»，bank=«bank_card»",
        "请forward给«email»，cc：«email»，deadline «~date»",
        "invoice的USCC是«cn_uscc»，plate «cn_plate»，ref «~order»",
    ),
    ("machine", "log"): (
        "level=warn ts=«~time» remote=«ip» user=«email» msg=\"bad otp\" phone=«cn_mobile» req=«~uuid»",
        "«~time» [pay-«=2|7»] pan=«bank_card» amt=«~amount» rrn=«~order»",
        "«~time» audit uid=«~order» cert=«cn_id» plate=«cn_plate» sha=«~digest»",
    ),
    ("machine", "code"): (
        "requests.post(url, headers={'x-api-key': '«secret»'}, json={'tel': '«cn_mobile»', 'v': '«~version»'})",
        "UPDATE member SET mobile='«cn_mobile»', mail='«email»' WHERE id_no='«cn_id»'; -- «~digest»",
        "redis://default:«password»@«ip»/0",
        "- host: «ip»\n  owner: «email»\n  commit: «~digest»\n  note: '«~code»'",
    ),
}  # fmt: skip
